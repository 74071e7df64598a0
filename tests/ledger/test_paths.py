"""The fast path and the plain path give the same entries, wherever both could be used."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pytest
from django.db import connection, transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import queries, sql
from ledger.drawdown import LotState, draw, draw_down_order, lots_in_use
from ledger.intake import NewRun
from ledger.invariants import violations
from ledger.laying import Demand, lay_over
from ledger.units import shard_of
from tests.ledger.builders import (
    HOUR,
    NOON,
    SMALL_TIERS,
    accept,
    debit,
    drain,
    make_account,
    make_lot,
    make_overage,
    make_run,
    make_shop,
)
from tests.ledger.columns import debt_lot, in_columns, lot

amounts = st.integers(1, 9)
instants = st.integers(0, 4)
lots = st.lists(
    st.tuples(
        amounts | st.integers(10, 60),
        st.sampled_from([0, 7]),  # price
        st.integers(0, 1),  # priority
        st.integers(-2, 3),  # begins
        st.none() | st.integers(1, 4),  # lasts
    ),
    max_size=5,
)
overages = st.lists(
    st.tuples(st.integers(0, 2), st.integers(1, 4), st.none() | amounts), max_size=2
)
runs = st.lists(st.tuples(st.integers(0, 9), instants), min_size=1, max_size=12)


def entries(account_id: int) -> list[tuple[int, int, int, int]]:
    """(receipt, lot in order of age, out before, microtokens) of every slice of every run."""
    numbers = {
        lot_id: number
        for number, lot_id in enumerate(
            sorted(lot.id for lot in queries.lots(account_ids=[account_id]))
        )
    }
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT run.sequence, movement.lot_id, movement.out_before_microtokens,
                   movement.microtokens
            FROM ledger_movement AS movement
            JOIN ledger_run AS run USING (shard, account_id, run_key)
            WHERE account_id = %s
            ORDER BY 1, 2, 3, 4
            """,
            [account_id],
        )
        return [(sequence, numbers[lot_id], *rest) for sequence, lot_id, *rest in cursor.fetchall()]


def put_away(account_id: int) -> None:
    """Without a lot in use, the next debit takes the plain path."""
    with transaction.atomic():
        sql.lock_shard(shard_of(account_id))
        sql.execute("put_away_lots", shard=shard_of(account_id), account_ids=[account_id])


def take_into_use(shop, code: str, *, hour: int) -> None:
    """A run that costs nothing takes a lot into use, so that the fast path can be taken."""
    debit(shop, [make_run(0, account=code, at=NOON + hour * HOUR)])


def fill(account_id: int, lots, overages) -> None:
    for amount, price, priority, begins, lasts in lots:
        make_lot(
            account_id,
            amount,
            price_micros=price,
            priority=priority,
            from_hours=begins,
            hours=None if lasts is None else begins + lasts,
        )
    for begins, lasts, cap in overages:
        make_overage(
            account_id,
            tiers=SMALL_TIERS[lasts % 3],
            cap_microtokens=cap,
            from_hours=begins,
            hours=begins + lasts,
        )


def made(code: str, runs: list[tuple[int, int]]) -> list[NewRun]:
    return [make_run(cost, account=code, at=NOON + hour * HOUR) for cost, hour in runs]


@settings(max_examples=settings().max_examples * 3 // 10)
@given(lots=lots, overages=overages, in_use_at=instants, runs=runs, runs_after=runs)
def test_one_big_block_and_one_run_at_a_time_give_the_same_entries(
    db: None, lots, overages, in_use_at: int, runs, runs_after
) -> None:
    with transaction.atomic():
        shop = make_shop(effective_at=NOON - 100 * HOUR)
        accounts = {code: make_account(shop, code) for code in ("block", "single", "plain")}
        for account_id in accounts.values():
            fill(account_id, lots, overages)
        for some in (runs, runs_after):
            for code in accounts:
                take_into_use(shop, code, hour=in_use_at)
            accept(shop, made("block", some))
            assert drain(accounts["block"]) == len(some)
            for run in made("single", some):
                debit(shop, [run])
            for run in made("plain", some):
                put_away(accounts["plain"])
                debit(shop, [run])
            for account_id in accounts.values():
                make_lot(account_id, 5)
        first, second, third = (entries(account_id) for account_id in accounts.values())
        assert first == second == third
        assert violations() == {}
        transaction.set_rollback(True)


# One account's lots: what was granted, how much of it is out, its tiers, price,
# priority, when they begin and how long they last.
states = st.lists(
    st.tuples(
        amounts | st.integers(10, 60),
        st.integers(0, 8),
        st.sampled_from([None, None, None, *SMALL_TIERS]),
        st.sampled_from([0, 7, 10**15]),
        st.integers(0, 1),
        st.integers(-2, 3),
        st.integers(1, 6),
    ),
    max_size=5,
)


def lots_of(account: int, facts) -> list[LotState]:
    made = [
        lot(
            10 * account + place,
            kind="prepaid" if tiers is None else "overage",
            tiers=tiers,
            granted_microtokens=granted,
            out_microtokens=min(out, granted),
            price_micros=price if tiers is None else 0,
            priority=priority,
            effective_at_us=begins,
            expires_at_us=begins + lasts,
        )
        for place, (granted, out, tiers, price, priority, begins, lasts) in enumerate(facts)
    ]
    return [*made, debt_lot(10 * account + 9, out_microtokens=3)]


@given(accounts=st.lists(st.tuples(states, instants, instants), min_size=1))
def test_the_lot_in_use_is_the_first_in_all_of_its_interval(accounts) -> None:
    made = [lots_of(number, facts) for number, (facts, _, _) in enumerate(accounts)]
    columns = in_columns(made)
    used = lots_in_use(columns, np.array([at for _, at, _ in accounts]))
    for number, (_, at, later) in enumerate(accounts):
        begin, end = int(used.from_at_us[number]), int(used.until_at_us[number])
        assert begin <= at < end
        left = [one for one in made[number] if one.remaining_microtokens]
        bounds = {bound for one in left for bound in (one.effective_at_us, one.expires_at_us)}
        assert {begin, end} <= bounds
        assert not any(begin < bound < end for bound in bounds)
        for time in (at, later):
            if begin <= time < end:
                [[first]] = draw(lots_of(number, accounts[number][0]), [(time, 1)])
                assert first.lot_id == columns.id[used.rows[number]]


@given(accounts=st.lists(st.tuples(states, runs), min_size=1))
def test_runs_laid_in_columns_lie_as_those_of_each_account_alone(accounts) -> None:
    """Every run of several accounts, on what is left of their lots, as ledger.drawdown has it."""
    made = [lots_of(number, facts) for number, (facts, _) in enumerate(accounts)]
    columns = in_columns(made)
    demand = Demand(
        counts=np.array([len(some) for _, some in accounts]),
        times_us=np.array([time for _, some in accounts for _, time in some]),
        microtokens=np.array([cost for _, some in accounts for cost, _ in some]),
    )
    tiers = {one.id: one.tiers for lots in made for one in lots if one.tiers is not None}
    laid, taken = lay_over(demand, columns, tiers_of=lambda ids: {one: tiers[one] for one in ids})
    row = 0
    for lots, (_, some) in zip(made, accounts, strict=True):
        for slices in draw(lots, [(time, cost) for cost, time in some]):
            if slices:
                assert laid.slices_counts[row] == len(slices)
                assert laid.crossing.get(row, slices[:1]) == slices
                assert (laid.lot_ids[row], laid.out_before[row]) == slices[0][:2]
            assert laid.micros[row] == sum(one.micros for one in slices)
            row += 1
        assert [(one.id, one.out_microtokens) for one in draw_down_order(lots)] == [
            (columns.id[at], columns.out_microtokens[at] + taken[at])
            for at in columns.of(made.index(lots))
        ]


def test_the_query_lists_lots_in_the_order_in_which_they_are_drawn(shop, account_id) -> None:
    make_overage(account_id)
    for price, priority, hours in [(5, 1, 9), (0, 1, 9), (5, 0, None), (5, 0, 3), (5, 1, 9)]:
        make_lot(account_id, 10, price_micros=price, priority=priority, hours=hours)
    debit(shop, [make_run(70, at=NOON)])
    lots = queries.lots(account_ids=[account_id])
    with connection.cursor() as cursor:
        cursor.execute("SELECT lot_id FROM ledger_entry WHERE kind = 'debit' ORDER BY id")
        drawn = [lot_id for (lot_id,) in cursor.fetchall()]
    assert [lot.id for lot in lots if lot.out_microtokens] == drawn
    assert [lot.out_microtokens for lot in lots] == [10, 10, 10, 10, 10, 20, 0]


def test_a_run_from_before_the_lot_in_use_began_does_not_draw_on_it(shop, account_id) -> None:
    before = make_lot(account_id, 100, from_hours=-5, hours=5, priority=1)
    begun = make_lot(account_id, 100, from_hours=0, hours=5)
    take_into_use(shop, "acme", hour=1)
    debit(shop, [make_run(1, at=NOON - HOUR), make_run(2, at=NOON + 2 * HOUR)])
    assert queries.all_consumed(lots={before: account_id, begun: account_id}) == {
        before: 1,
        begun: 2,
    }


@pytest.mark.parametrize("late", [timedelta(0), timedelta(microseconds=1)])
def test_a_lot_serves_from_its_first_instant_to_the_one_before_its_expiry(
    shop, account_id, late: timedelta
) -> None:
    lot_id = make_lot(account_id, 100, from_hours=0, hours=2)

    def served(at: datetime) -> bool:
        before = queries.consumed(lot_id=lot_id, account_id=account_id)
        debit(shop, [make_run(1, at=at)])
        return queries.consumed(lot_id=lot_id, account_id=account_id) > before

    assert served(NOON + late)
    assert served(NOON + 2 * HOUR - timedelta(microseconds=1) - late)
    assert not served(NOON + 2 * HOUR + late)
    assert not served(NOON - timedelta(microseconds=1) - late)
    assert served(NOON + late)


@dataclass(frozen=True, kw_only=True)
class Oldest:
    id: int
    runs_count: int
    runs: bytes


@pytest.mark.parametrize(
    ("runs_max", "intakes_max", "taken"),
    [(5, 9, [3, 2]), (4, 9, [3]), (2, 9, [3]), (6, 9, [3, 2, 1]), (99, 2, [3, 2])],
)
def test_a_block_takes_the_oldest_intakes_up_to_its_size(
    shop, account_id, runs_max: int, intakes_max: int, taken: list[int]
) -> None:
    for size in (3, 2, 1, 9, 1):
        accept(shop, [make_run(1) for _ in range(size)])
    with transaction.atomic():
        oldest = sql.query(
            Oldest,
            "take_oldest_intakes",
            shard=shard_of(account_id),
            runs_max=runs_max,
            intakes_max=intakes_max,
        )
        transaction.set_rollback(True)
    assert [one.runs_count for one in oldest] == taken
    assert drain(account_id) == 16
