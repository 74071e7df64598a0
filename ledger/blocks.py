"""Write a block: runs of one shard, laid over their accounts' lots, all at once.

1. The runs are counted on their accounts, and their cost is taken from each account's lot in
   use (sql/debit_accounts.sql).
2. Where that lot serves them all, the runs lie end to end on it: arithmetic on whole columns.
3. The runs of the other accounts (the lot ran out, another lot begins or ends between them, none
   is in use yet) are laid over their lots one by one, with ledger.drawdown; then each of those
   accounts takes the lot into use that serves its last run.
4. The runs are written by binary COPY, with an entry for each slice of a run that crossed lots.

Steps 2 and 3 give the same entries wherever both could be used; the tests compare them.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from django.db import connection

from ledger import sql
from ledger.drawdown import LotState, Slice, draw, lot_in_use
from ledger.instants import from_us, to_us
from ledger.models import Block, Entry
from ledger.packing import POSTGRESQL_EPOCH_US, CopyFormat, Integers, Rows, unpack_runs
from ledger.units import NEVER

_NEVER_US: Final = to_us(NEVER)

_RUN_COPY: Final = CopyFormat(
    "ledger_run",
    {
        "account_id": ">i8",
        "run_key": "V16",
        "occurred_at": ">i8",
        "sequence": ">i8",
        "microtokens": ">i8",
        "lot_id": ">i8",
        "out_before_microtokens": ">i8",
        "attribution_key": "V16",
        "body_digest": ">i8",
        "block_number": ">i8",
        "submission_id": ">i8",
        "submission_position": ">i4",
        "slices_count": ">i2",
        "shard": ">i2",
    },
)


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """Runs of one shard in order of arrival, and where their details stand."""

    shard: int
    runs: Rows
    submission_ids: Integers
    positions: Integers

    @staticmethod
    def of(shard: int, intakes: Sequence[tuple[int, int, bytes]]) -> "Waiting":
        """Of intakes in order of arrival: (submission id, runs, the runs packed)."""
        counts = [runs_count for _, runs_count, _ in intakes]
        return Waiting(
            shard=shard,
            runs=np.concatenate([unpack_runs(packed) for _, _, packed in intakes]),
            submission_ids=np.repeat([submission_id for submission_id, _, _ in intakes], counts),
            positions=np.concatenate([np.arange(count) for count in counts]),
        )

    def pick(self, rows: npt.NDArray[Any]) -> "Waiting":
        """These rows, in this order."""
        return Waiting(
            shard=self.shard,
            runs=self.runs[rows],
            submission_ids=self.submission_ids[rows],
            positions=self.positions[rows],
        )

    def keys(self) -> list[tuple[int, uuid.UUID]]:
        """(account id, run key) of each run."""
        return [
            (account_id, uuid.UUID(bytes=key))
            for account_id, key in zip(
                self.runs["account_id"].tolist(), self.runs["run_key"].tolist(), strict=True
            )
        ]


@dataclass(frozen=True, kw_only=True)
class _Accounts:
    """A block's accounts in order of id: what is debited, and how they stand after it.

    Account i has the runs of the rows begins[i] to begins[i] + counts[i].
    """

    ids: Integers
    begins: Integers
    counts: Integers
    totals: Integers
    runs_count: Integers
    lot_id: Integers
    out: Integers
    granted: Integers
    from_at_us: Integers
    until_at_us: Integers


@dataclass(frozen=True, kw_only=True)
class _Laid:
    """For each run, its first slice, and how many it has."""

    lot_ids: Integers
    out_before: Integers
    slices_counts: Integers


def write_block(waiting: Waiting, *, at: datetime) -> None:
    """Debit runs, all of them new, in order of arrival. The caller holds the shard's lock."""
    # Account after account; within an account still in order of arrival.
    waiting = waiting.pick(np.argsort(waiting.runs["account_id"], kind="stable"))
    accounts = _debit_accounts(waiting)
    laid = _lay_on_lots_in_use(waiting.runs, accounts)
    crossing = _lay_the_others(waiting, accounts, laid)
    # A run that cost nothing took nothing, wherever it lay.
    free = waiting.runs["microtokens"] == 0
    laid.slices_counts[free] = laid.lot_ids[free] = laid.out_before[free] = 0
    block = Block(
        shard=waiting.shard,
        number=_next_number(waiting.shard),
        recorded_at=at,
        runs_count=len(waiting.runs),
        microtokens=int(accounts.totals.sum()),
    )
    block.save(force_insert=True)
    _copy_runs(waiting, accounts, laid, block.number)
    _write_slices(waiting, crossing)


def _debit_accounts(waiting: Waiting) -> _Accounts:
    runs = waiting.runs
    begins = np.flatnonzero(np.diff(runs["account_id"], prepend=-1))
    counts = np.diff(begins, append=len(runs))
    ids = runs["account_id"][begins]
    totals = np.add.reduceat(runs["microtokens"], begins)
    rows = sql.integers(
        "debit_accounts",
        7,
        shard=waiting.shard,
        account_ids=sql.array(ids.tolist()),
        runs_counts=sql.array(counts.tolist()),
        microtokens=sql.array(totals.tolist()),
    )
    assert len(rows) == len(ids), "a run's account is always there"
    rows = rows[np.argsort(rows[:, 0])]
    return _Accounts(
        ids=ids,
        begins=begins,
        counts=counts,
        totals=totals,
        runs_count=rows[:, 1],
        lot_id=rows[:, 2],
        out=rows[:, 3],
        granted=rows[:, 4],
        from_at_us=rows[:, 5] + POSTGRESQL_EPOCH_US,
        until_at_us=rows[:, 6] + POSTGRESQL_EPOCH_US,
    )


def _lay_on_lots_in_use(runs: Rows, accounts: _Accounts) -> _Laid:
    """Each account's runs end to end on its lot in use, as if that served them all."""
    ends = np.cumsum(runs["microtokens"])
    starts_of_accounts = np.cumsum(accounts.totals) - accounts.totals
    begins_within = ends - runs["microtokens"] - np.repeat(starts_of_accounts, accounts.counts)
    return _Laid(
        lot_ids=np.repeat(accounts.lot_id, accounts.counts),
        out_before=np.repeat(accounts.out - accounts.totals, accounts.counts) + begins_within,
        slices_counts=np.ones(len(runs), np.int64),
    )


def _lay_the_others(
    waiting: Waiting, accounts: _Accounts, laid: _Laid
) -> list[tuple[int, list[Slice]]]:
    """Lay the runs of accounts whose lot in use can't serve them all, one by one.

    Corrects `laid`; returns the runs, by row, that crossed lots, with their slices.
    """
    times = waiting.runs["occurred_at_us"]
    is_served = (
        (accounts.lot_id != 0)
        & (accounts.out <= accounts.granted)
        & (np.minimum.reduceat(times, accounts.begins) >= accounts.from_at_us)
        & (np.maximum.reduceat(times, accounts.begins) < accounts.until_at_us)
    )
    others = np.flatnonzero(~is_served).tolist()
    if not others:
        return []
    lots = _open_lots(waiting.shard, accounts, others)
    rows_say = {lot.id: lot.out_microtokens for of_one in lots.values() for lot in of_one}
    crossing: list[tuple[int, list[Slice]]] = []
    for other in others:
        begin = int(accounts.begins[other])
        end = begin + int(accounts.counts[other])
        _know_what_is_out(lots[other], accounts, other)
        costs = waiting.runs["microtokens"][begin:end].tolist()
        drawn = draw(lots[other], list(zip(times[begin:end].tolist(), costs, strict=True)))
        # A run that cost nothing has no slice.
        firsts = [slices[0] if slices else Slice(0, 0, 0) for slices in drawn]
        laid.lot_ids[begin:end] = [first.lot_id for first in firsts]
        laid.out_before[begin:end] = [first.out_before_microtokens for first in firsts]
        laid.slices_counts[begin:end] = [len(slices) for slices in drawn]
        crossing += [(row, slices) for row, slices in enumerate(drawn, begin) if len(slices) > 1]
    last_times = times[accounts.begins + accounts.counts - 1]
    _move_on(waiting.shard, accounts, lots, rows_say, last_times)
    return crossing


def _know_what_is_out(lots: list[LotState], accounts: _Accounts, position: int) -> None:
    """The account's row knows how much of its lot in use is out; this block's cost is in it."""
    for lot in lots:
        if lot.id == accounts.lot_id[position]:
            lot.out_microtokens = int(accounts.out[position] - accounts.totals[position])


def _open_lots(shard: int, accounts: _Accounts, others: list[int]) -> dict[int, list[LotState]]:
    """The lots of these accounts, by the account's position, as their rows say."""
    position = {int(accounts.ids[other]): other for other in others}
    lots: dict[int, list[LotState]] = {other: [] for other in others}
    for (
        account_id, lot_id, kind, priority, effective_at_us, expires_at_us, is_paid, issued_at_us,
        granted_microtokens, out_microtokens,
    ) in sql.rows("open_lots", shard=shard, account_ids=sql.array(position)):  # fmt: skip
        lots[position[account_id]].append(
            LotState(
                id=lot_id,
                kind=kind,
                priority=priority,
                effective_at_us=effective_at_us,
                expires_at_us=_NEVER_US if expires_at_us is None else expires_at_us,
                is_paid=is_paid,
                issued_at_us=issued_at_us,
                granted_microtokens=granted_microtokens,
                out_microtokens=out_microtokens,
            )
        )
    return lots


def _move_on(
    shard: int,
    accounts: _Accounts,
    lots: dict[int, list[LotState]],
    rows_say: dict[int, int],
    last_times: Integers,
) -> None:
    """Write the lots that have moved, and take those into use that serve the last runs."""
    moved = [
        lot
        for of_account in lots.values()
        for lot in of_account
        if lot.out_microtokens != rows_say[lot.id]
    ]
    sql.execute(
        "move_lots",
        shard=shard,
        lot_ids=sql.array(lot.id for lot in moved),
        out_microtokens=sql.array(lot.out_microtokens for lot in moved),
    )
    in_use = [lot_in_use(of_account, int(last_times[other])) for other, of_account in lots.items()]
    sql.execute(
        "use_lots",
        shard=shard,
        account_ids=sql.array(int(accounts.ids[other]) for other in lots),
        lot_ids=sql.array(one.lot.id for one in in_use),
        out_microtokens=sql.array(one.lot.out_microtokens for one in in_use),
        granted_microtokens=sql.array(one.lot.granted_microtokens for one in in_use),
        from_at=sql.array(from_us(one.from_at_us) for one in in_use),
        until_at=sql.array(from_us(one.until_at_us) for one in in_use),
    )


def _next_number(shard: int) -> int:
    last = Block.objects.filter(shard=shard).order_by("-number").values_list("number", flat=True)
    return (last.first() or 0) + 1


def _copy_runs(waiting: Waiting, accounts: _Accounts, laid: _Laid, block_number: int) -> None:
    runs = waiting.runs
    first_sequences = accounts.runs_count - accounts.counts + 1
    rows = np.arange(len(runs))
    packed = _RUN_COPY.pack(
        len(runs),
        {
            "account_id": runs["account_id"],
            "run_key": runs["run_key"],
            "occurred_at": runs["occurred_at_us"] - POSTGRESQL_EPOCH_US,
            "sequence": rows + np.repeat(first_sequences - accounts.begins, accounts.counts),
            "microtokens": runs["microtokens"],
            "lot_id": laid.lot_ids,
            "out_before_microtokens": laid.out_before,
            "attribution_key": runs["attribution_key"],
            "body_digest": runs["body_digest"],
            "block_number": block_number,
            "submission_id": waiting.submission_ids,
            "submission_position": waiting.positions,
            "slices_count": laid.slices_counts,
            "shard": waiting.shard,
        },
    )
    with (
        connection.cursor() as cursor,
        connection.wrap_database_errors,
        cursor.copy(_RUN_COPY.statement) as copy,
    ):
        copy.write(packed)


def _write_slices(waiting: Waiting, crossing: list[tuple[int, list[Slice]]]) -> None:
    """An entry for each slice of the runs that crossed lots."""
    if not crossing:
        return
    keys = waiting.pick(np.array([row for row, _ in crossing])).keys()
    times = waiting.runs["occurred_at_us"]
    slices = [
        (account_id, key, from_us(int(times[row])), one)
        for (account_id, key), (row, slices) in zip(keys, crossing, strict=True)
        for one in slices
    ]
    sql.execute(
        "enter_slices",
        shard=waiting.shard,
        kind=Entry.Kind.DEBIT,
        account_ids=sql.array(account_id for account_id, _, _, _ in slices),
        run_keys=sql.array(key for _, key, _, _ in slices),
        occurred_at=sql.array(occurred_at for _, _, occurred_at, _ in slices),
        lot_ids=sql.array(one.lot_id for _, _, _, one in slices),
        out_before_microtokens=sql.array(one.out_before_microtokens for _, _, _, one in slices),
        microtokens=sql.array(one.microtokens for _, _, _, one in slices),
    )
