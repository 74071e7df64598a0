"""Write a block: runs of one shard, laid over their accounts' lots, all at once.

1. The runs are counted on their accounts, and their cost is taken from each account's lot in
   use (sql/debit_accounts.sql).
2. Where that lot serves them all, the runs lie end to end on it: arithmetic on whole columns.
3. The runs of the other accounts (the lot ran out, another lot begins or ends between them, none
   is in use yet) are laid over their lots one by one, with ledger.drawdown; then each of those
   accounts takes the lot into use that serves its last run.
4. What each run is worth in money is computed for whole columns too (ledger.value).
5. The runs are written by binary COPY, with an entry for each slice of a run that crossed lots.
   While PostgreSQL takes them in, their leaves are hashed.
6. The block itself is written: the root of its leaves, chained to the block before it
   (ledger.chain), and what it adds to usage totals (ledger.totals).

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

from ledger import chain, leaves, sql, totals
from ledger.drawdown import LotState, Slice, draw, lot_in_use
from ledger.instants import from_us, to_us
from ledger.models import Entry
from ledger.packing import POSTGRESQL_EPOCH_US, CopyFormat, Integers, Rows, unpack_runs
from ledger.settling import settle
from ledger.units import NEVER
from ledger.value import Tier, prepaid_micros_of_all, tiered_micros

_NEVER_US: Final = to_us(NEVER)
# What stands for the price of a lot that is worth what its tiers say.
BY_TIERS: Final = -1
# About what a socket takes at once: the next rows are hashed while PostgreSQL reads these.
_COPY_CHUNK_RUNS: Final = 1_000

_RUN_COPY: Final = CopyFormat(
    "ledger_run",
    {
        "account_id": ">i8",
        "run_key": "V16",
        "part": ">i8",
        "occurred_at": ">i8",
        "sequence": ">i8",
        "microtokens": ">i8",
        "micros": ">i8",
        "lot_id": ">i8",
        "out_before_microtokens": ">i8",
        "attribution_key": "V16",
        "body_digest": ">i8",
        "block_number": ">i8",
        "submission_id": ">i8",
        "submission_position": ">i4",
        "block_position": ">i4",
        "engine_id": ">i4",
        "slices_count": ">i2",
        "flags": ">i2",
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

    def keys(self) -> list[tuple[int, uuid.UUID, int]]:
        """(account id, run key, part) of each run."""
        columns = (self.runs[name].tolist() for name in ("account_id", "run_key", "part"))
        return [
            (account_id, uuid.UUID(bytes=key), part)
            for account_id, key, part in zip(*columns, strict=True)
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
    price_micros: Integers
    watched: npt.NDArray[np.bool_]  # by a hold or a limit
    from_at_us: Integers
    until_at_us: Integers


@dataclass(frozen=True, kw_only=True)
class _Laid:
    """For each run, its first slice, how many it has, and what they are worth together."""

    lot_ids: Integers
    out_before: Integers
    slices_counts: Integers
    micros: Integers


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
    head = chain.head(waiting.shard)
    sequences = _sequences(waiting.runs, accounts)
    hashes = _copy_runs(waiting, sequences, laid, crossing, block_number=head.number + 1)
    _write_slices(waiting, crossing)
    chain.append(
        waiting.shard,
        head,
        leaves=hashes,
        microtokens=int(accounts.totals.sum()),
        micros=int(laid.micros.sum()),
        totals=totals.of_runs(waiting.runs, laid.micros),
        at=at,
    )
    watched = np.flatnonzero(np.repeat(accounts.watched, accounts.counts))
    if len(watched):
        settle(shard=waiting.shard, runs=waiting.runs[watched], micros=laid.micros[watched], at=at)


def _debit_accounts(waiting: Waiting) -> _Accounts:
    runs = waiting.runs
    begins = np.flatnonzero(np.diff(runs["account_id"], prepend=-1))
    counts = np.diff(begins, append=len(runs))
    ids = runs["account_id"][begins]
    receipts_counts = np.add.reduceat(runs["part"] == 0, begins, dtype=np.int64)
    totals = np.add.reduceat(runs["microtokens"], begins)
    rows = sql.integers(
        "debit_accounts",
        9,
        shard=waiting.shard,
        account_ids=sql.array(ids.tolist()),
        receipts_counts=sql.array(receipts_counts.tolist()),
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
        price_micros=rows[:, 5],
        watched=rows[:, 6] > 0,
        from_at_us=rows[:, 7] + POSTGRESQL_EPOCH_US,
        until_at_us=rows[:, 8] + POSTGRESQL_EPOCH_US,
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
        micros=np.zeros(len(runs), np.int64),
    )


def _value_on_lots_in_use(
    shard: int, runs: Rows, accounts: _Accounts, is_served: npt.NDArray[np.bool_], laid: _Laid
) -> None:
    """What the runs are worth that lie whole on their account's lot in use."""
    is_prepaid = is_served & (accounts.price_micros > 0)
    rows = np.flatnonzero(np.repeat(is_prepaid, accounts.counts))
    if len(rows):
        price = np.repeat(accounts.price_micros, accounts.counts)[rows]
        granted = np.repeat(accounts.granted, accounts.counts)[rows]
        before = laid.out_before[rows]
        worth_before = prepaid_micros_of_all(price, granted, before)
        after = before + runs["microtokens"][rows]
        laid.micros[rows] = prepaid_micros_of_all(price, granted, after) - worth_before
    by_tiers = np.flatnonzero(is_served & (accounts.price_micros == BY_TIERS)).tolist()
    tiers = _tiers(shard, [int(accounts.lot_id[position]) for position in by_tiers])
    for position in by_tiers:
        begin = int(accounts.begins[position])
        end = begin + int(accounts.counts[position])
        of_lot = tiers[int(accounts.lot_id[position])]
        outs = [int(laid.out_before[begin]), *_ends(laid, runs, begin, end)]
        worth = [tiered_micros(tiers=of_lot, out_microtokens=out) for out in outs]
        laid.micros[begin:end] = np.diff(worth)


def _ends(laid: _Laid, runs: Rows, begin: int, end: int) -> list[int]:
    ends: list[int] = (laid.out_before[begin:end] + runs["microtokens"][begin:end]).tolist()
    return ends


def _tiers(shard: int, lot_ids: list[int]) -> dict[int, tuple[Tier, ...]]:
    if not lot_ids:
        return {}
    rows = sql.rows("tiers_of_lots", shard=shard, lot_ids=sql.array(lot_ids))
    return {lot_id: Tier.of_json(tiers) for lot_id, tiers in rows}


def _sequences(runs: Rows, accounts: _Accounts) -> Integers:
    """The number of each run's receipt in its account; 0 for a part, which has none of its own."""
    has_receipt = runs["part"] == 0
    until = np.cumsum(has_receipt)
    last_of_account = np.repeat(until[accounts.begins + accounts.counts - 1], accounts.counts)
    sequences = np.repeat(accounts.runs_count, accounts.counts) - (last_of_account - until)
    return np.where(has_receipt, sequences, 0)


def _lay_the_others(waiting: Waiting, accounts: _Accounts, laid: _Laid) -> dict[int, list[Slice]]:
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
    _value_on_lots_in_use(waiting.shard, waiting.runs, accounts, is_served, laid)
    others = np.flatnonzero(~is_served).tolist()
    if not others:
        return {}
    lots = _open_lots(waiting.shard, accounts, others)
    rows_say = {lot.id: lot.out_microtokens for of_one in lots.values() for lot in of_one}
    crossing: dict[int, list[Slice]] = {}
    for other in others:
        begin = int(accounts.begins[other])
        end = begin + int(accounts.counts[other])
        _know_what_is_out(lots[other], accounts, other)
        costs = waiting.runs["microtokens"][begin:end].tolist()
        drawn = draw(lots[other], list(zip(times[begin:end].tolist(), costs, strict=True)))
        # A run that cost nothing has no slice.
        firsts = [slices[0] if slices else Slice(0, 0, 0, 0) for slices in drawn]
        laid.lot_ids[begin:end] = [first.lot_id for first in firsts]
        laid.out_before[begin:end] = [first.out_before_microtokens for first in firsts]
        laid.slices_counts[begin:end] = [len(slices) for slices in drawn]
        laid.micros[begin:end] = [sum(one.micros for one in slices) for slices in drawn]
        crossing |= {row: slices for row, slices in enumerate(drawn, begin) if len(slices) > 1}
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
        account_id, lot_id, kind, priority, effective_at_us, expires_at_us, issued_at_us,
        granted_microtokens, out_microtokens, price_micros, tiers,
    ) in sql.rows("open_lots", shard=shard, account_ids=sql.array(position)):  # fmt: skip
        lots[position[account_id]].append(
            LotState(
                id=lot_id,
                kind=kind,
                priority=priority,
                effective_at_us=effective_at_us,
                expires_at_us=_NEVER_US if expires_at_us is None else expires_at_us,
                price_micros=price_micros,
                tiers=None if tiers is None else Tier.of_json(tiers),
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
        price_micros=sql.array(
            one.lot.price_micros if one.lot.tiers is None else BY_TIERS for one in in_use
        ),
        from_at=sql.array(from_us(one.from_at_us) for one in in_use),
        until_at=sql.array(from_us(one.until_at_us) for one in in_use),
    )


def _copy_runs(
    waiting: Waiting,
    sequences: Integers,
    laid: _Laid,
    crossing: dict[int, list[Slice]],
    *,
    block_number: int,
) -> list[bytes]:
    """Write the runs; the hashes of their leaves."""
    runs = waiting.runs
    columns: dict[str, Any] = {
        "account_id": runs["account_id"],
        "run_key": runs["run_key"],
        "part": runs["part"],
        "sequence": sequences,
        "microtokens": runs["microtokens"],
        "micros": laid.micros,
        "lot_id": laid.lot_ids,
        "out_before_microtokens": laid.out_before,
        "attribution_key": runs["attribution_key"],
        "engine_id": runs["engine_id"],
        "slices_count": laid.slices_counts,
        "flags": runs["flags"],
        "shard": waiting.shard,
    }
    packed = _RUN_COPY.pack(
        len(runs),
        columns
        | {
            "occurred_at": runs["occurred_at_us"] - POSTGRESQL_EPOCH_US,
            "body_digest": runs["body_digest"],
            "block_number": block_number,
            "block_position": np.arange(len(runs)),
            "submission_id": waiting.submission_ids,
            "submission_position": waiting.positions,
        },
    )
    unhashed = leaves.pack(
        len(runs),
        columns
        | {
            "occurred_at_us": runs["occurred_at_us"],
            "details_digest": runs["details_digest"],
        },
    )
    hashes: list[bytes] = []
    chunk_bytes = _COPY_CHUNK_RUNS * _RUN_COPY.row_bytes
    with (
        connection.cursor() as cursor,
        connection.wrap_database_errors,
        cursor.copy(_RUN_COPY.statement) as copy,
    ):
        for begin in range(0, len(packed), chunk_bytes):
            copy.write(packed[begin : begin + chunk_bytes])
            hashes += leaves.hashes(unhashed[len(hashes) : len(hashes) + _COPY_CHUNK_RUNS])
        hashes += leaves.hashes(unhashed[len(hashes) :])
    for row, slices in crossing.items():
        hashes[row] = leaves.hash_of_crossing(unhashed[row], slices)
    return hashes


def _write_slices(waiting: Waiting, crossing: dict[int, list[Slice]]) -> None:
    """An entry for each slice of the runs that crossed lots."""
    if not crossing:
        return
    keys = waiting.pick(np.array(list(crossing))).keys()
    times = waiting.runs["occurred_at_us"]
    slices = [
        (account_id, key, part, from_us(int(times[row])), one)
        for (account_id, key, part), (row, slices) in zip(keys, crossing.items(), strict=True)
        for one in slices
    ]
    sql.execute(
        "enter_slices",
        shard=waiting.shard,
        kind=Entry.Kind.DEBIT,
        account_ids=sql.array(account_id for account_id, _, _, _, _ in slices),
        run_keys=sql.array(key for _, key, _, _, _ in slices),
        parts=sql.array(part for _, _, part, _, _ in slices),
        occurred_at=sql.array(occurred_at for _, _, _, occurred_at, _ in slices),
        lot_ids=sql.array(one.lot_id for *_, one in slices),
        out_before_microtokens=sql.array(one.out_before_microtokens for *_, one in slices),
        microtokens=sql.array(one.microtokens for *_, one in slices),
    )
