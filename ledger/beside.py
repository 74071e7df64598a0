"""What is sealed beside a run's row: its slices, and the other runs of its leaf.

Slices are read for every receipt that is given out, the others for the proof of one run. Which runs
of its account came into a block together is found by the submissions that the block names; it has
at most a few ten thousand.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec
import numpy as np

from ledger import merkle, sql
from ledger.accounts import AccountFacts
from ledger.drawdown import Slice
from ledger.instants import to_us
from ledger.leaves import RECORD, RUNS_PER_LEAF, pack, pack_slices
from ledger.packing import details_digest, details_text
from ledger.units import run_key

_COLUMNS: Final = tuple(
    name for name in RECORD.names or () if name not in ("letter", "details_digest")
)
_AT_A_TIME: Final = 50  # submissions
# Of a run's details its id and its account, and nothing else.
_decode: Final = msgspec.json.Decoder(tuple[str, int, msgspec.Raw, msgspec.Raw]).decode
_RUN_KEY: Final = _COLUMNS.index("run_key")
_PART: Final = _COLUMNS.index("part")
_SLICES_COUNT: Final = _COLUMNS.index("slices_count")


def records(
    *, account: AccountFacts, block: int, leaf: int, submission_id: int
) -> list[tuple[int, bytes]]:
    """Position and record of each run that a leaf of this account seals, in order.

    One of them came with this submission: the others mostly did, too, or with one near it.
    """
    [(sealed, ids)] = sql.binary(
        "sealed_leaf",
        shard=account.shard,
        number=block,
        leaf=leaf,
        submission_id=submission_id,
    )
    found: dict[int, bytes] = {}
    in_order: list[tuple[int, bytes]] = []
    for begin in range(-_AT_A_TIME, len(ids), _AT_A_TIME):
        # First that one alone.
        some = ids[:1] if begin < 0 else ids[max(begin, 1) : begin + _AT_A_TIME]
        found.update(_records(account, block, leaf, some))
        in_order = sorted(found.items())
        if merkle.leaf_hash(b"".join(record for _, record in in_order)) == sealed:
            break
    return in_order


def _records(
    account: AccountFacts, block: int, leaf: int, submission_ids: Sequence[int]
) -> Iterator[tuple[int, bytes]]:
    """Those of its runs that came with these submissions."""
    keys, digests = _details(account, submission_ids)
    rows = sql.binary(
        "runs_of_leaf",
        shard=account.shard,
        account_id=account.id,
        run_keys=keys,
        block_number=block,
        first_position=RUNS_PER_LEAF * leaf,
        last_position=RUNS_PER_LEAF * (leaf + 1) - 1,
    )
    rows = [row for row in rows if row[-2:] in digests]  # another part may have come with another
    crossing = slices(
        account=account, run_keys=[row[_RUN_KEY] for row in rows if row[_SLICES_COUNT] > 1]
    )
    for row in rows:
        *columns, position, _, _ = row
        record = _record(columns, digests[row[-2:]])
        yield position, record + pack_slices(crossing.get((row[_RUN_KEY], row[_PART]), ()))


def slices(
    *, account: AccountFacts, run_keys: Sequence[UUID]
) -> dict[tuple[UUID, int], list[Slice]]:
    """Those of runs that drew on several lots, in order of draw-down, by run and part.

    What they are worth stands in their run's row, not in them.
    """
    found: dict[tuple[UUID, int], list[Slice]] = {}
    if run_keys:
        for key, part, lot_id, out_before, microtokens in sql.rows(
            "slices_of_runs", shard=account.shard, account_id=account.id, run_keys=list(run_keys)
        ):
            found.setdefault((key, part), []).append(Slice(lot_id, out_before, microtokens, 0))
    return found


def _details(
    account: AccountFacts, submission_ids: Sequence[int]
) -> tuple[list[UUID], dict[tuple[int, int], bytes]]:
    """The keys of an account's runs that came with these submissions; and of each, by submission
    and position in it, the digest of its details."""
    keys: dict[UUID, None] = {}
    digests: dict[tuple[int, int], bytes] = {}
    for number, runs_count, packed in sql.binary(
        "details_of_submissions", shard=account.shard, ids=list(submission_ids)
    ):
        for position in range(runs_count):
            text = details_text(packed, runs_count, position)
            run_id, account_id, _, _ = _decode(text)
            if account_id == account.id:
                keys[run_key(run_id)] = None
                digests[number, position] = details_digest(text)
    return list(keys), digests


def _record(columns: Sequence[Any], digest_of_details: bytes) -> bytes:
    """Of a row's columns in RECORD's order."""
    said = {name: _packed(value) for name, value in zip(_COLUMNS, columns, strict=True)}
    said["details_digest"] = np.frombuffer(digest_of_details, "V32")
    return pack(1, said).tobytes()


def _packed(value: Any) -> Any:
    if isinstance(value, UUID):
        return np.frombuffer(value.bytes, "V16")
    return value if isinstance(value, int) else to_us(value)
