"""Bundle runs that were taken: for each shard, its runs packed for the debit, and their details.

All that is the same work for every run is done for all of them at a time: one call that writes
all details, one look at all ids.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ledger.checking import CheckedRun
from ledger.packing import details_digest, encode_details, pack_details, pack_run
from ledger.reported import body_digests
from ledger.units import part_key, run_keys


@dataclass(frozen=True, slots=True)
class Bundle:
    """The runs of a submission that go to one shard."""

    shard: int
    runs_count: int
    runs: bytes
    details: bytes


def bundles(taken: Sequence[CheckedRun]) -> list[Bundle]:
    """In order of shards; within each, runs stay in theirs."""
    details = encode_details(
        [(one.run.id, one.bearer.account_id, one.inferences, one.unusual) for one in taken]
    )
    keys = run_keys([one.run.id for one in taken])
    digests = body_digests(one.run for one in taken)
    runs = [
        pack_run(
            one.bearer.account_id,
            key,
            0 if one.unusual is None else part_key(one.unusual.part),
            one.at_us,
            one.microtokens,
            one.bearer.attribution_key,
            digest,
            details_digest(text),
            one.engine_id,
            one.flags,
        )
        for one, key, digest, text in zip(taken, keys, digests, details, strict=True)
    ]
    places: dict[int, list[int]] = defaultdict(list)
    for place, one in enumerate(taken):
        places[one.bearer.shard].append(place)
    return [
        Bundle(
            shard,
            len(of_shard),
            b"".join([runs[place] for place in of_shard]),
            pack_details([details[place] for place in of_shard]),
        )
        for shard, of_shard in sorted(places.items())
    ]
