"""What is sealed beside a run's row: its slices, and the other runs of its leaf.

Slices are read for every receipt that is given out, the others for the proof of one run. Which runs
of its account came into a block together is found by the submissions that the block names; it has
at most a few ten thousand.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final
from uuid import UUID

import numpy as np

from ledger import sql
from ledger.accounts import AccountFacts
from ledger.drawdown import Slice
from ledger.instants import to_us
from ledger.leaves import RECORD, RUNS_PER_LEAF, pack, pack_slices
from ledger.packing import details_digest, details_text, unpack_details
from ledger.units import run_key

_COLUMNS: Final = tuple(
    name for name in RECORD.names or () if name not in ("letter", "details_digest")
)
_RUN_KEY: Final = _COLUMNS.index("run_key")
_PART: Final = _COLUMNS.index("part")
_SLICES_COUNT: Final = _COLUMNS.index("slices_count")


def records(*, account: AccountFacts, block: int, leaf: int) -> Iterator[tuple[int, bytes]]:
    """Position and record of each run that a leaf of this account seals, in order."""
    submissions = {
        number: (packed, runs_count)
        for number, runs_count, packed in sql.binary(
            "submissions_of_block", shard=account.shard, number=block
        )
    }
    rows = sql.binary(
        "runs_of_leaf",
        shard=account.shard,
        account_id=account.id,
        run_keys=_keys(account, list(submissions.values())),
        block_number=block,
        first_position=RUNS_PER_LEAF * leaf,
        last_position=RUNS_PER_LEAF * (leaf + 1) - 1,
    )
    crossing = slices(
        account=account, run_keys=[row[_RUN_KEY] for row in rows if row[_SLICES_COUNT] > 1]
    )
    for row in rows:
        *columns, position, submission_id, submission_position = row
        text = details_text(*submissions[submission_id], submission_position)
        record = _record(columns, details_digest(text))
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


def _keys(account: AccountFacts, submissions: Sequence[tuple[bytes, int]]) -> list[UUID]:
    """Of the account's runs in them."""
    return list(
        dict.fromkeys(
            run_key(details.run_id)
            for packed, runs_count in submissions
            for details in unpack_details(packed, runs_count, range(runs_count))
            if details.account_id == account.id
        )
    )


def _record(columns: Sequence[Any], digest_of_details: bytes) -> bytes:
    """Of a row's columns in RECORD's order."""
    said = {name: _packed(value) for name, value in zip(_COLUMNS, columns, strict=True)}
    said["details_digest"] = np.frombuffer(digest_of_details, "V32")
    return pack(1, said).tobytes()


def _packed(value: Any) -> Any:
    if isinstance(value, UUID):
        return np.frombuffer(value.bytes, "V16")
    return value if isinstance(value, int) else to_us(value)
