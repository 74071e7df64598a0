"""Lay a block's runs over their accounts' lots.

1. Their cost has been taken from each account's lot in use (ledger.standings).
2. Where that lot serves them all, the runs lie end to end on it: arithmetic on whole columns.
3. For the other accounts (the lot ran out, another lot begins or ends between the runs, none is in
   use yet) the lots are read, or remembered. Where no lot that is reached begins or ends between
   the runs, runs and lots lie end to end: sums and a search on whole columns again. The rest is
   laid one by one with ledger.drawdown. Then each of those accounts takes the lot into use that
   serves its last run.
4. What each run is worth in money is computed for whole columns too (ledger.value).

However a run is laid, the entries are the same; the tests compare them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ledger import sql
from ledger.drawdown import BY_TIERS, InUse, Lots, Slice, draw, lots_in_use
from ledger.open_lots import NotRemembered, OpenLots, pack
from ledger.packing import Integers, Rows, bigints, instants
from ledger.standings import Accounts, Used
from ledger.value import Tiers, prepaid_micros_of_all, tiered_micros

_SUM_MAX: Final = 2.0**62

# The tiers of these lots, by id.
TiersOf = Callable[[list[int]], Mapping[int, Tiers]]


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What runs ask of their accounts' lots: account i has the next counts[i] of them."""

    counts: Integers
    times_us: Integers
    microtokens: Integers

    @cached_property
    def ends(self) -> Integers:
        return np.cumsum(self.counts)

    @cached_property
    def begins(self) -> Integers:
        return self.ends - self.counts

    @cached_property
    def totals(self) -> Integers:
        return np.add.reduceat(self.microtokens, self.begins)


@dataclass(frozen=True, kw_only=True)
class Laid:
    """For each run, its first slice, how many it has, and what they are worth together."""

    lot_ids: Integers
    out_before: Integers
    slices_counts: Integers
    micros: Integers
    # By row: the slices of runs that have several.
    crossing: dict[int, list[Slice]] = field(default_factory=dict)

    @staticmethod
    def of_nothing(runs_count: int) -> "Laid":
        """As runs lie that took nothing from any lot."""
        return Laid(
            lot_ids=np.zeros(runs_count, np.int64),
            out_before=np.zeros(runs_count, np.int64),
            slices_counts=np.zeros(runs_count, np.int64),
            micros=np.zeros(runs_count, np.int64),
        )


@dataclass(frozen=True, kw_only=True)
class Moves:
    """Of accounts that move on to other lots: what writes them and their lots, and the lots that
    are open then, packed."""

    statements: list[sql.Statement] = field(default_factory=list)
    open_lots: dict[int, bytes] = field(default_factory=dict)


# Runs as they lie; and how their accounts and lots move on by it, worked out when it is asked for.
Laying = tuple[Laid, Callable[[], Moves]]


def lay_ahead(shard: int, runs: Rows, accounts: Accounts) -> Laying | None:
    """As `lay`, but from what is remembered alone: None if that does not say enough."""
    try:
        return _lay(OpenLots(shard=shard, may_read=False), runs, accounts)
    except NotRemembered:
        return None


def lay(shard: int, runs: Rows, accounts: Accounts) -> Laying:
    """Lay debited runs over lots. Accounts that are not served all through by their lot in use
    move on by it, and so do their lots: how, is to be asked for once."""
    return _lay(OpenLots(shard=shard), runs, accounts)


def _lay(lots: OpenLots, runs: Rows, accounts: Accounts) -> Laying:
    is_served = accounts.are_served(runs["occurred_at_us"])
    laid = _lay_on_lots_in_use(runs, accounts)
    _value_on_lots_in_use(lots, runs, accounts, is_served, laid)
    move_on: Callable[[], Moves] = Moves
    if not is_served.all():
        move_on = _lay_the_others(lots, runs, accounts, ~is_served, laid)
    # A run that cost nothing took nothing, wherever it lay.
    free = runs["microtokens"] == 0
    laid.slices_counts[free] = laid.lot_ids[free] = laid.out_before[free] = 0
    return laid, move_on


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
    )


def _value_on_lots_in_use(
    lots: OpenLots, runs: Rows, accounts: Accounts, is_served: npt.NDArray[np.bool_], laid: Laid
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
    tiers = lots.tiers([int(accounts.lot_id[position]) for position in by_tiers])
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


def _lay_the_others(
    open_lots: OpenLots,
    runs: Rows,
    accounts: Accounts,
    are_others: npt.NDArray[np.bool_],
    laid: Laid,
) -> Callable[[], Moves]:
    """Lay the runs of accounts whose lot in use can't serve them all; how these move on."""
    others = accounts.pick(are_others)
    rows = np.flatnonzero(np.repeat(are_others, accounts.counts))
    demand = Demand(
        counts=others.counts,
        times_us=runs["occurred_at_us"][rows],
        microtokens=runs["microtokens"][rows],
    )
    as_written = open_lots.of(others)
    lots = _knowing_what_is_out(as_written, others)
    found, taken = lay_over(demand, lots, tiers_of=open_lots.tiers)
    for name in ("lot_ids", "out_before", "slices_counts", "micros"):
        getattr(laid, name)[rows] = getattr(found, name)
    laid.crossing.update((int(rows[at]), slices) for at, slices in found.crossing.items())
    last_times_us = demand.times_us[demand.ends - 1]

    def move_on() -> Moves:
        moved = replace(lots, out_microtokens=lots.out_microtokens + taken)
        in_use = lots_in_use(moved, last_times_us)
        accounts.take_into_use(are_others, used := _used(moved, in_use))
        return _moves(open_lots.shard, others, used, moved, as_written, in_use)

    return move_on


def _moves(
    shard: int, accounts: Accounts, used: Used, lots: Lots, as_written: Lots, in_use: InUse
) -> Moves:
    written = _written(lots, as_written, in_use)
    rows_say = replace(
        lots, out_microtokens=np.where(written, lots.out_microtokens, as_written.out_microtokens)
    )
    still_open = rows_say.pick(rows_say.remaining_microtokens > 0)
    packed = pack(still_open, len(accounts.ids))
    return Moves(
        statements=[
            ("move_lots", _moved(shard, lots, written)),
            ("use_lots", _taken_into_use(shard, accounts, used)),
        ],
        open_lots=dict(zip(accounts.ids.tolist(), packed, strict=True)),
    )


def lay_over(demand: Demand, lots: Lots, *, tiers_of: TiersOf) -> tuple[Laid, Integers]:
    """Lay runs over lots in draw-down order; and how much each of these has given."""
    taken, are_single = _taken_end_to_end(demand, lots)
    laid = _lay_end_to_end(demand, lots, taken)
    if are_single.any():
        _lay_singly(demand, lots, np.flatnonzero(are_single), tiers_of, taken, laid)
    return laid, taken


def _taken_end_to_end(demand: Demand, lots: Lots) -> tuple[Integers, npt.NDArray[np.bool_]]:
    """What is taken of each lot if all that serve are used up in turn, and the accounts in which
    this does not hold: a lot that is reached serves some runs only, or is priced by its tiers.

    Of those nothing is taken here. Of a lot no more than its account's runs cost counts as left,
    so that the sums stay far from what 64 bits hold.
    """
    account = lots.account
    first = np.minimum.reduceat(demand.times_us, demand.begins)[account]
    last = np.maximum.reduceat(demand.times_us, demand.begins)[account]
    totals = demand.totals[account]
    left = lots.remaining_microtokens
    serves = (left > 0) & (lots.effective_at_us <= last) & (lots.expires_at_us > first)
    serves_all = serves & (lots.effective_at_us <= first) & (lots.expires_at_us > last)
    is_plain = serves_all & (lots.price_micros != BY_TIERS)
    usable = np.where(is_plain, np.minimum(left, totals), 0)
    assert usable.sum(dtype=np.float64) < _SUM_MAX, "more than a block can cost"
    before = np.cumsum(usable) - usable
    before -= before[np.searchsorted(account, account)]  # what stands before the account's first
    wanted = np.maximum(totals - before, 0)
    are_single = np.zeros(len(demand.counts), np.bool_)
    are_single[account[serves & ~is_plain & (wanted > 0)]] = True
    return np.where(are_single[account], 0, np.minimum(usable, wanted)), are_single


def _lay_end_to_end(demand: Demand, lots: Lots, taken: Integers) -> Laid:
    """Lay runs over what is taken of their accounts' lots: both make up one line.

    Runs of an account of which nothing is taken are laid as if they cost nothing.
    """
    used = np.flatnonzero(taken)
    if not len(used):
        return Laid.of_nothing(len(demand.microtokens))
    lot_ends = np.cumsum(taken[used])
    lot_begins = lot_ends - taken[used]
    is_laid = np.bincount(lots.account[used], minlength=len(demand.counts)) > 0
    ends = np.cumsum(np.where(np.repeat(is_laid, demand.counts), demand.microtokens, 0))
    assert ends[-1] == lot_ends[-1], "an account's debt lot has no end"
    begins = np.concatenate(([0], ends[:-1]))
    # A run that costs nothing may lie where one lot ends and another begins, or after the last:
    # what it finds there has no tokens.
    first = np.searchsorted(lot_ends[:-1], begins, side="right")
    last = np.maximum(np.searchsorted(lot_ends, ends, side="left"), first)
    counts = last - first + 1
    firsts = np.cumsum(counts) - counts
    run = np.repeat(np.arange(len(counts)), counts)
    lot = first[run] + np.arange(len(run)) - firsts[run]
    row = used[lot]
    before = lots.out_microtokens[row] - lot_begins[lot]
    lot_ids = lots.id[row]
    out_before = before + np.maximum(begins[run], lot_begins[lot])
    out_after = before + np.minimum(ends[run], lot_ends[lot])
    price, granted = lots.price_micros[row], lots.granted_microtokens[row]
    micros = prepaid_micros_of_all(price, granted, out_after)
    micros -= prepaid_micros_of_all(price, granted, out_before)
    crosses = counts > 1
    columns = (lot_ids, out_before, out_after - out_before, micros)
    of_crossing = zip(*(one[crosses[run]].tolist() for one in columns), strict=True)
    return Laid(
        lot_ids=lot_ids[firsts],
        out_before=out_before[firsts],
        slices_counts=counts,
        micros=np.add.reduceat(micros, firsts),
        crossing={
            at: list(map(Slice._make, islice(of_crossing, count)))
            for at, count in zip(
                np.flatnonzero(crosses).tolist(), counts[crosses].tolist(), strict=True
            )
        },
    )


def _lay_singly(
    demand: Demand, lots: Lots, accounts: Integers, tiers_of: TiersOf, taken: Integers, laid: Laid
) -> None:
    """Lay runs one by one: a lot begins or ends between them, or is priced by its tiers."""
    have_tiers = (lots.price_micros == BY_TIERS) & np.isin(lots.account, accounts)
    tiers = tiers_of(lots.id[have_tiers].tolist())
    for account in accounts.tolist():
        rows = lots.of(account)
        states = [lots.state(row, tiers.get(int(lots.id[row]))) for row in rows]
        begin, end = int(demand.begins[account]), int(demand.ends[account])
        times = demand.times_us[begin:end].tolist()
        costs = demand.microtokens[begin:end].tolist()
        drawn = draw(states, list(zip(times, costs, strict=True)))
        # A run that cost nothing has no slice.
        firsts = [slices[0] if slices else _NO_SLICE for slices in drawn]
        laid.lot_ids[begin:end] = [first.lot_id for first in firsts]
        laid.out_before[begin:end] = [first.out_before_microtokens for first in firsts]
        laid.slices_counts[begin:end] = [len(slices) for slices in drawn]
        laid.micros[begin:end] = [sum(one.micros for one in slices) for slices in drawn]
        for at, slices in enumerate(drawn, begin):
            if len(slices) > 1:
                laid.crossing[at] = slices
        taken[rows] = [state.out_microtokens for state in states] - lots.out_microtokens[rows]


_NO_SLICE: Final = Slice(0, 0, 0, 0)


def _knowing_what_is_out(lots: Lots, accounts: Accounts) -> Lots:
    """An account's row knows how much of its lot in use is out; this block's cost is in it."""
    is_in_use = lots.id == accounts.lot_id[lots.account]
    before = (accounts.out - accounts.totals)[lots.account]
    return replace(lots, out_microtokens=np.where(is_in_use, before, lots.out_microtokens))


def _written(lots: Lots, as_written: Lots, in_use: InUse) -> npt.NDArray[np.bool_]:
    """The lots that have moved, but for those in use: the account says what of them is out."""
    has_moved = np.asarray(lots.out_microtokens != as_written.out_microtokens)
    has_moved[in_use.rows] = False
    return has_moved


def _moved(shard: int, lots: Lots, written: npt.NDArray[np.bool_]) -> dict[str, Any]:
    return {
        "shard": shard,
        "lot_ids": bigints(lots.id[written]),
        "out_microtokens": bigints(lots.out_microtokens[written]),
    }


def _used(lots: Lots, in_use: InUse) -> Used:
    return Used(
        lot_id=lots.id[in_use.rows],
        out=lots.out_microtokens[in_use.rows],
        granted=lots.granted_microtokens[in_use.rows],
        price_micros=lots.price_micros[in_use.rows],
        from_at_us=in_use.from_at_us,
        until_at_us=in_use.until_at_us,
    )


def _taken_into_use(shard: int, accounts: Accounts, used: Used) -> dict[str, Any]:
    return {
        "shard": shard,
        "account_ids": bigints(accounts.ids),
        "lot_ids": bigints(used.lot_id),
        "out_microtokens": bigints(used.out),
        "granted_microtokens": bigints(used.granted),
        "price_micros": bigints(used.price_micros),
        "from_at": instants(used.from_at_us),
        "until_at": instants(used.until_at_us),
        "mark": accounts.mark,
    }
