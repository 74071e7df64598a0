"""Lay a block's runs over their accounts' lots.

1. Their cost is taken from each account's lot in use (sql/debit_accounts.sql).
2. Where that lot serves them all, the runs lie end to end on it: arithmetic on whole columns.
3. For the other accounts (the lot ran out, another lot begins or ends between the runs, none is in
   use yet) the lots are read. Where none of them begins or ends between the runs, their runs and
   their lots lie end to end: sums and a search on whole columns again. The rest is laid one by one
   with ledger.drawdown. Then each of those accounts takes the lot into use that serves its last
   run.
4. What each run is worth in money is computed for whole columns too (ledger.value).

However a run is laid, the entries are the same; the tests compare them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ledger import sql
from ledger.drawdown import LotState, Slice, draw, draw_down_order, lot_in_use
from ledger.instants import to_us
from ledger.packing import POSTGRESQL_EPOCH_US, Integers, PackedArray, Rows, bigints, instants
from ledger.units import NEVER
from ledger.value import Tier, prepaid_micros_of_all, slice_micros, tiered_micros

# What stands for the price of a lot that is worth what its tiers say.
BY_TIERS: Final = -1
_NEVER_US: Final = to_us(NEVER)
_SUM_MAX: Final = 2.0**62


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
    together: list[Share] = []
    singly: list[Share] = []
    for other in others:
        begin = int(accounts.begins[other])
        end = begin + int(accounts.counts[other])
        _know_what_is_out(lots[other], accounts, other)
        serving = serving_all_through(lots[other], runs["occurred_at_us"][begin:end])
        if serving is not None and accounts.totals[other]:
            together.append(Share(serving, begin, end))
        else:
            singly.append(Share(lots[other], begin, end))
    lay_end_to_end(together, runs, laid)
    _lay_singly(singly, runs, laid)
    last_times = runs["occurred_at_us"][accounts.begins + accounts.counts - 1]
    _move_on(shard, accounts, lots, rows_say, last_times)


class Share(NamedTuple):
    """An account's lots, and its rows: the first, and the one after the last."""

    lots: list[LotState]
    begin: int
    end: int


def serving_all_through(lots: list[LotState], times: Integers) -> list[LotState] | None:
    """Those with tokens left that serve at all of these times, in draw-down order.

    None if one serves at some of them only, or is priced by its tiers.
    """
    first, last = int(times.min()), int(times.max())
    serving = [
        lot
        for lot in lots
        if lot.remaining_microtokens and lot.effective_at_us <= last and lot.expires_at_us > first
    ]
    for lot in serving:
        if lot.effective_at_us > first or lot.expires_at_us <= last or lot.tiers is not None:
            return None
    return draw_down_order(serving)


def lay_end_to_end(shares: Sequence[Share], runs: Rows, laid: Laid) -> None:
    """Lay runs on the lots that serve all through: what they cost, summed up, over what is left.

    Accounts lie end to end too, so that one search finds the lots of all runs. Of a lot no more
    than its account's runs cost counts as left, so that the sums stay far from what 64 bits hold.
    """
    if not shares:
        return
    rows = np.concatenate([np.arange(begin, end) for _, begin, end in shares])
    costs = runs["microtokens"][rows]
    counts = np.array([end - begin for _, begin, end in shares])
    totals = np.add.reduceat(costs, np.cumsum(counts) - counts)
    lots = [lot for share in shares for lot in share.lots]
    lots_counts = np.array([len(share.lots) for share in shares])
    ids, granted, price, outs = (
        np.array([getattr(lot, name) for lot in lots], np.int64)
        for name in ("id", "granted_microtokens", "price_micros", "out_microtokens")
    )
    left = np.minimum(granted - outs, np.repeat(totals, lots_counts))
    assert left.sum(dtype=np.float64) < _SUM_MAX, "more than a block can cost"
    lot_ends = np.cumsum(left)
    lot_begins = lot_ends - left
    bases = lot_begins[np.cumsum(lots_counts) - lots_counts]
    ends = np.cumsum(costs) + np.repeat(bases - (np.cumsum(totals) - totals), counts)
    begins = ends - costs
    # A run that costs nothing may find the place after the last lot: what it finds is not used.
    first = np.searchsorted(lot_ends[:-1], begins, side="right")
    last = np.searchsorted(lot_ends, ends, side="left")
    out_before = outs[first] + begins - lot_begins[first]
    laid.lot_ids[rows] = ids[first]
    laid.out_before[rows] = out_before
    laid.slices_counts[rows] = last - first + 1
    worth = [
        prepaid_micros_of_all(price[first], granted[first], out)
        for out in (out_before, np.minimum(out_before + costs, granted[first]))
    ]
    laid.micros[rows] = worth[1] - worth[0]
    used = np.clip(np.repeat(bases + totals, lots_counts) - lot_begins, 0, left)
    for at in np.flatnonzero(last > first).tolist():
        row = int(rows[at])
        laid.crossing[row] = [
            _slice(
                lots[lot],
                max(int(begins[at] - lot_begins[lot]), 0),
                int(ends[at] - lot_begins[lot]),
            )
            for lot in range(int(first[at]), int(last[at]) + 1)
        ]
        laid.micros[row] = sum(one.micros for one in laid.crossing[row])
    for lot, taken in zip(lots, used.tolist(), strict=True):
        if taken:
            lot.move_to(lot.out_microtokens + taken)


def _slice(lot: LotState, begin: int, end: int) -> Slice:
    """Of what is left of a lot, the tokens from `begin` to `end`, or to its own end."""
    out_before = lot.out_microtokens + begin
    out_after = min(lot.out_microtokens + end, lot.granted_microtokens)
    micros = slice_micros(
        price_micros=lot.price_micros,
        granted_microtokens=lot.granted_microtokens,
        tiers=lot.tiers,
        out_before=out_before,
        out_after=out_after,
    )
    return Slice(lot.id, out_before, out_after - out_before, micros)


def _lay_singly(shares: Sequence[Share], runs: Rows, laid: Laid) -> None:
    """Lay runs one by one: a lot begins or ends between them, or is priced by its tiers."""
    for lots, begin, end in shares:
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
    now_out = {
        "lot_ids": _packed(lot.id for lot in moved),
        "out_microtokens": _packed(lot.out_microtokens for lot in moved),
    }
    now_used = {
        "account_ids": bigints(accounts.ids[list(lots)]),
        "lot_ids": _packed(one.lot.id for one in in_use),
        "out_microtokens": _packed(one.lot.out_microtokens for one in in_use),
        "granted_microtokens": _packed(one.lot.granted_microtokens for one in in_use),
        "price_micros": _packed(
            one.lot.price_micros if one.lot.tiers is None else BY_TIERS for one in in_use
        ),
        "from_at": instants(np.array([one.from_at_us for one in in_use])),
        "until_at": instants(np.array([one.until_at_us for one in in_use])),
    }
    sql.in_one_go(
        ("move_lots", {"shard": shard, **now_out}), ("use_lots", {"shard": shard, **now_used})
    )


def _packed(numbers: Iterable[int]) -> PackedArray:
    return bigints(np.fromiter(numbers, np.int64))
