"""Bundle runs that were taken: for each shard, its runs packed for the debit, and their details.

What is the same work for every run is done for all that are given at a time: one call that writes
their details, one look at their ids.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

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


class Bundling:
    """Runs of a submission, given some at a time, on their way to their shards."""

    def __init__(self) -> None:
        self._shards: dict[int, _Gathered] = defaultdict(_Gathered)

    def add(self, taken: Sequence[CheckedRun]) -> None:
        texts = encode_details(
            [(one.run.id, one.bearer.account_id, one.inferences, one.unusual) for one in taken]
        )
        keys = run_keys([one.run.id for one in taken])
        digests = body_digests(one.run for one in taken)
        for one, key, digest, text in zip(taken, keys, digests, texts, strict=True):
            bearer = one.bearer
            of_shard = self._shards[bearer.shard]
            of_shard.details.append(text)
            of_shard.runs.append(
                pack_run(
                    bearer.account_id,
                    key,
                    0 if one.unusual is None else part_key(one.unusual.part),
                    one.at_us,
                    one.microtokens,
                    bearer.attribution_key,
                    digest,
                    details_digest(text),
                    one.engine_id,
                    one.flags,
                )
            )

    def bundles(self) -> list[Bundle]:
        """In order of shards; within each, runs stay in theirs."""
        return [
            Bundle(shard, len(one.runs), b"".join(one.runs), pack_details(one.details))
            for shard, one in sorted(self._shards.items())
        ]


@dataclass(slots=True)
class _Gathered:
    """What a shard has so far, run by run."""

    runs: list[bytes] = field(default_factory=list)
    details: list[bytes] = field(default_factory=list)
