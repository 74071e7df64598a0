"""Lay a block's runs over their accounts' lots.

1. Their cost is taken from each account's lot in use (sql/debit_accounts.sql).
2. Where that lot serves them all, the runs lie end to end on it: arithmetic on whole columns.
3. For the other accounts (the lot ran out, another lot begins or ends between the runs, none is in
   use yet) the lots are read. Their runs are laid over them stretch by stretch where there are
   many (a stretch is runs that one lot serves whole), and else one by one with ledger.drawdown.
   Then each of those accounts takes the lot into use that serves its last run.
4. What each run is worth in money is computed for whole columns too (ledger.value).

However a run is laid, the entries are the same; the tests compare them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ledger import sql
from ledger.drawdown import LotState, Slice, draw, lot_in_use
from ledger.instants import to_us
from ledger.packing import POSTGRESQL_EPOCH_US, Integers, PackedArray, Rows, bigints, instants
from ledger.units import NEVER
from ledger.value import Tier, prepaid_micros_of_all, tiered_micros

# What stands for the price of a lot that is worth what its tiers say.
BY_TIERS: Final = -1
# From so many runs of an account on they are laid stretch by stretch.
LONG_RUNS: Final = 64
_WINDOW_RUNS: Final = 2_048
_SINGLY_RUNS: Final = 16
_NEVER_US: Final = to_us(NEVER)


@dataclass(frozen=True, kw_only=True)
class Accounts:
    """A block's accounts in order of id: what is debited, and how they stand after it.

    Account i has the runs of the rows begins[i] to begins[i] + counts[i].
    """

    ids: Integers
    begins: Integers
    counts: Integers
    totals: Integers
    runs_count: Integers
    lot_id: Integers  # 0: none in use
    out: Integers
    granted: Integers
    price_micros: Integers
    watched: npt.NDArray[np.bool_]  # by a hold or a limit
    from_at_us: Integers
    until_at_us: Integers


@dataclass(frozen=True, kw_only=True)
class Laid:
    """For each run, its first slice, how many it has, and what they are worth together."""

    lot_ids: Integers
    out_before: Integers
    slices_counts: Integers
    micros: Integers
    crossing: dict[int, list[Slice]]  # by row: the slices of runs that have several


def debit_accounts(shard: int, runs: Rows) -> Accounts:
    """Take what runs cost from their accounts. The runs stand account after account."""
    begins = np.flatnonzero(np.diff(runs["account_id"], prepend=-1))
    ids = runs["account_id"][begins]
    totals = np.add.reduceat(runs["microtokens"], begins)
    receipts_counts = np.add.reduceat(runs["part"] == 0, begins, dtype=np.int64)
    found = sql.columns(
        "debit_accounts",
        shard=shard,
        account_ids=bigints(ids),
        receipts_counts=bigints(receipts_counts),
        microtokens=bigints(totals),
    )
    assert len(found[0]) == len(ids), "a run's account is always there"
    order = np.argsort(found[0])
    runs_count, lot_id, out, granted, price_micros, watchers, from_at, until_at = (
        column[order] for column in found[1:]
    )
    return Accounts(
        ids=ids,
        begins=begins,
        counts=np.diff(begins, append=len(runs)),
        totals=totals,
        runs_count=runs_count,
        lot_id=lot_id,
        out=out,
        granted=granted,
        price_micros=price_micros,
        watched=watchers > 0,
        from_at_us=from_at + POSTGRESQL_EPOCH_US,
        until_at_us=until_at + POSTGRESQL_EPOCH_US,
    )


def lay(shard: int, runs: Rows, accounts: Accounts) -> Laid:
    """Lay debited runs over lots, and write the lots and accounts that move on by it."""
    times = runs["occurred_at_us"]
    is_served = (
        (accounts.lot_id != 0)
        & (accounts.out <= accounts.granted)
        & (np.minimum.reduceat(times, accounts.begins) >= accounts.from_at_us)
        & (np.maximum.reduceat(times, accounts.begins) < accounts.until_at_us)
    )
    laid = _lay_on_lots_in_use(runs, accounts)
    _value_on_lots_in_use(shard, runs, accounts, is_served, laid)
    _lay_the_others(shard, runs, accounts, np.flatnonzero(~is_served).tolist(), laid)
    # A run that cost nothing took nothing, wherever it lay.
    free = runs["microtokens"] == 0
    laid.slices_counts[free] = laid.lot_ids[free] = laid.out_before[free] = 0
    return laid


def _lay_on_lots_in_use(runs: Rows, accounts: Accounts) -> Laid:
    """Each account's runs end to end on its lot in use, as if that served them all."""
    ends = np.cumsum(runs["microtokens"])
    starts_of_accounts = np.cumsum(accounts.totals) - accounts.totals
    begins_within = ends - runs["microtokens"] - np.repeat(starts_of_accounts, accounts.counts)
    return Laid(
        lot_ids=np.repeat(accounts.lot_id, accounts.counts),
        out_before=np.repeat(accounts.out - accounts.totals, accounts.counts) + begins_within,
        slices_counts=np.ones(len(runs), np.int64),
        micros=np.zeros(len(runs), np.int64),
        crossing={},
    )


def _value_on_lots_in_use(
    shard: int, runs: Rows, accounts: Accounts, is_served: npt.NDArray[np.bool_], laid: Laid
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


def _ends(laid: Laid, runs: Rows, begin: int, end: int) -> list[int]:
    ends: list[int] = (laid.out_before[begin:end] + runs["microtokens"][begin:end]).tolist()
    return ends


def _tiers(shard: int, lot_ids: list[int]) -> dict[int, tuple[Tier, ...]]:
    if not lot_ids:
        return {}
    rows = sql.rows("tiers_of_lots", shard=shard, lot_ids=sql.array(lot_ids))
    return {lot_id: Tier.of_json(tiers) for lot_id, tiers in rows}


def _lay_the_others(
    shard: int, runs: Rows, accounts: Accounts, others: list[int], laid: Laid
) -> None:
    """Lay the runs of accounts whose lot in use can't serve them all, and move those on."""
    if not others:
        return
    lots = _open_lots(shard, accounts, others)
    rows_say = {lot.id: lot.out_microtokens for of_one in lots.values() for lot in of_one}
    for other in others:
        begin = int(accounts.begins[other])
        end = begin + int(accounts.counts[other])
        _know_what_is_out(lots[other], accounts, other)
        lay_some = _lay_stretches if end - begin >= LONG_RUNS else _lay_singly
        lay_some(lots[other], runs, begin, end, laid)
    last_times = runs["occurred_at_us"][accounts.begins + accounts.counts - 1]
    _move_on(shard, accounts, lots, rows_say, last_times)


def _lay_singly(lots: list[LotState], runs: Rows, begin: int, end: int, laid: Laid) -> None:
    """Lay an account's runs of these rows one by one."""
    times = runs["occurred_at_us"][begin:end].tolist()
    costs = runs["microtokens"][begin:end].tolist()
    drawn = draw(lots, list(zip(times, costs, strict=True)))
    # A run that cost nothing has no slice.
    firsts = [slices[0] if slices else _NO_SLICE for slices in drawn]
    laid.lot_ids[begin:end] = [first.lot_id for first in firsts]
    laid.out_before[begin:end] = [first.out_before_microtokens for first in firsts]
    laid.slices_counts[begin:end] = [len(slices) for slices in drawn]
    laid.micros[begin:end] = [sum(one.micros for one in slices) for slices in drawn]
    for row, slices in enumerate(drawn, begin):
        if len(slices) > 1:
            laid.crossing[row] = slices


_NO_SLICE: Final = Slice(0, 0, 0, 0)


def _lay_stretches(lots: list[LotState], runs: Rows, begin: int, end: int, laid: Laid) -> None:
    """Lay an account's runs of these rows: as many at once as one lot serves whole."""
    while begin < end:
        until = min(end, begin + _WINDOW_RUNS)
        begin += _lay_stretch(lots, runs, begin, until, laid)
        singly = min(end, begin + _SINGLY_RUNS)
        if begin < until:
            # Here a run crosses lots, or its time is another lot's.
            _lay_singly(lots, runs, begin, singly, laid)
            begin = singly


def _lay_stretch(lots: list[LotState], runs: Rows, begin: int, until: int, laid: Laid) -> int:
    """Lay the first of these rows that the first lot serves whole; how many they are."""
    times = runs["occurred_at_us"][begin:until]
    used = lot_in_use(lots, int(times[0]))
    lot = used.lot
    ends = lot.out_microtokens + np.cumsum(runs["microtokens"][begin:until])
    is_served = (
        (times >= used.from_at_us) & (times < used.until_at_us) & (ends <= lot.granted_microtokens)
    )
    count = int(np.argmin(is_served)) if not is_served.all() else len(times)
    if not count:
        return 0
    end, ends = begin + count, ends[:count]
    laid.lot_ids[begin:end] = lot.id
    laid.out_before[begin:end] = ends - runs["microtokens"][begin:end]
    laid.slices_counts[begin:end] = 1
    laid.micros[begin:end] = np.diff(_worth(lot, ends), prepend=lot.worth_micros)
    lot.move_to(int(ends[-1]))
    return count


def _worth(lot: LotState, outs: Integers) -> Integers:
    """What the first tokens of a lot are worth, up to each of these positions."""
    if lot.tiers is not None:
        tiers = lot.tiers
        return np.array([tiered_micros(tiers=tiers, out_microtokens=out) for out in outs.tolist()])
    if not lot.price_micros:
        return np.zeros_like(outs)
    price, granted = (
        np.full_like(outs, number) for number in (lot.price_micros, lot.granted_microtokens)
    )
    return prepaid_micros_of_all(price, granted, outs)


def _know_what_is_out(lots: list[LotState], accounts: Accounts, position: int) -> None:
    """The account's row knows how much of its lot in use is out; this block's cost is in it."""
    for lot in lots:
        if lot.id == accounts.lot_id[position]:
            lot.move_to(int(accounts.out[position] - accounts.totals[position]))


def _open_lots(shard: int, accounts: Accounts, others: list[int]) -> dict[int, list[LotState]]:
    """The lots of these accounts, by the account's position, as their rows say."""
    position = {int(accounts.ids[other]): other for other in others}
    lots: dict[int, list[LotState]] = {other: [] for other in others}
    for (
        account_id, lot_id, kind, priority, effective_at_us, expires_at_us, issued_at_us,
        granted_microtokens, out_microtokens, price_micros, tiers,
    ) in sql.binary("open_lots", shard=shard, account_ids=_packed(position)):  # fmt: skip
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
    accounts: Accounts,
    lots: dict[int, list[LotState]],
    rows_say: dict[int, int],
    last_times: Integers,
) -> None:
    """Take those lots into use that serve the last runs, and write the others that have moved."""
    in_use = [lot_in_use(of_account, int(last_times[other])) for other, of_account in lots.items()]
    # Of a lot in use the account says what is out; its own row may lag behind.
    used = {one.lot.id for one in in_use}
    moved = [
        lot
        for of_account in lots.values()
        for lot in of_account
        if lot.out_microtokens != rows_say[lot.id] and lot.id not in used
    ]
    sql.binary(
        "move_lots",
        shard=shard,
        lot_ids=_packed(lot.id for lot in moved),
        out_microtokens=_packed(lot.out_microtokens for lot in moved),
    )
    sql.binary(
        "use_lots",
        shard=shard,
        account_ids=bigints(accounts.ids[list(lots)]),
        lot_ids=_packed(one.lot.id for one in in_use),
        out_microtokens=_packed(one.lot.out_microtokens for one in in_use),
        granted_microtokens=_packed(one.lot.granted_microtokens for one in in_use),
        price_micros=_packed(
            one.lot.price_micros if one.lot.tiers is None else BY_TIERS for one in in_use
        ),
        from_at=instants(np.array([one.from_at_us for one in in_use])),
        until_at=instants(np.array([one.until_at_us for one in in_use])),
    )


def _packed(numbers: Iterable[int]) -> PackedArray:
    return bigints(np.fromiter(numbers, np.int64))
