"""The fast path and the plain path give the same entries, wherever both could be used."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from django.db import connection, transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import queries, sql
from ledger.drawdown import KIND_RANK, LotState, draw, draw_down_order, lot_in_use
from ledger.intake import NewRun
from ledger.invariants import violations
from ledger.laying import Laid, Share, lay_end_to_end, serving_all_through
from ledger.packing import RUN
from ledger.units import shard_of
from tests.ledger.builders import (
    HOUR,
    NOON,
    accept,
    debit,
    drain,
    make_account,
    make_lot,
    make_overage,
    make_run,
    make_shop,
)

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
            ORDER BY 1, 2, 3
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
        make_overage(account_id, cap_microtokens=cap, from_hours=begins, hours=begins + lasts)


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


@given(lots=lots, at=instants, later=instants)
def test_the_lot_in_use_is_the_first_in_all_of_its_interval(lots, at: int, later: int) -> None:
    states = [
        LotState(
            id=number,
            kind="prepaid",
            priority=priority,
            effective_at_us=begins,
            expires_at_us=99 if lasts is None else begins + lasts,
            price_micros=price,
            tiers=None,
            issued_at_us=number,
            granted_microtokens=amount,
            out_microtokens=0,
        )
        for number, (amount, price, priority, begins, lasts) in enumerate(lots, 1)
    ]
    states.append(debt_lot())
    used = lot_in_use(states, at)
    assert used.from_at_us <= at < used.until_at_us
    if used.from_at_us <= later < used.until_at_us:
        [[first]] = draw(states, [(later, 1)])
        assert first.lot_id == used.lot.id


def debt_lot(**facts: Any) -> LotState:
    usual: dict[str, Any] = {
        "id": 0,
        "kind": "debt",
        "priority": 0,
        "effective_at_us": -99,
        "expires_at_us": 99,
        "price_micros": 0,
        "tiers": None,
        "issued_at_us": 0,
        "granted_microtokens": 10**18,
        "out_microtokens": 0,
    }
    return LotState(**usual | facts)


# What comes first, and what comes after it although everything less important speaks for it.
ORDER: list[dict[str, Any]] = [
    {"kind": "prepaid", "priority": 1, "expires_at_us": 9, "price_micros": 1, "issued_at_us": 9},
    {"kind": "prepaid", "priority": 2, "expires_at_us": 7, "price_micros": 1, "issued_at_us": 9},
    {"kind": "prepaid", "priority": 2, "expires_at_us": 8, "price_micros": 0, "issued_at_us": 9},
    {"kind": "prepaid", "priority": 2, "expires_at_us": 8, "price_micros": 1, "issued_at_us": 7},
    {"kind": "prepaid", "priority": 2, "expires_at_us": 8, "price_micros": 1, "issued_at_us": 8},
    {"kind": "prepaid", "priority": 2, "expires_at_us": 8, "price_micros": 1, "issued_at_us": 8},
    {"kind": "overage", "priority": 0, "expires_at_us": 5, "price_micros": 0, "issued_at_us": 1},
    {"kind": "debt", "priority": 0, "expires_at_us": 4, "price_micros": 0, "issued_at_us": 0},
]


def test_lots_are_drawn_by_priority_expiry_free_before_paid_age_and_id() -> None:
    # An id counts only between the two that are alike otherwise.
    ids = [9, 8, 7, 6, 3, 5, 2, 1]
    in_order = [debt_lot(**facts, id=lot_id) for lot_id, facts in zip(ids, ORDER, strict=True)]
    assert [lot.id for lot in draw_down_order(reversed(in_order))] == ids
    assert set(KIND_RANK) == {"prepaid", "overage", "debt"}


def test_the_query_lists_lots_in_the_order_in_which_they_are_drawn(db: None) -> None:
    shop = make_shop()
    account_id = make_account(shop)
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


def test_a_run_from_before_the_lot_in_use_began_does_not_draw_on_it(db: None) -> None:
    shop = make_shop()
    account_id = make_account(shop)
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
    db: None, late: timedelta
) -> None:
    shop = make_shop()
    account_id = make_account(shop)
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
    db: None, runs_max: int, intakes_max: int, taken: list[int]
) -> None:
    shop = make_shop()
    account_id = make_account(shop)
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


lots_left = st.lists(
    st.tuples(amounts | st.integers(10, 60), st.integers(0, 8), st.sampled_from([0, 7, 10**15])),
    max_size=4,
)


@given(shares=st.lists(st.tuples(lots_left, st.lists(st.integers(0, 30), min_size=1)), min_size=1))
def test_accounts_end_to_end_lie_as_each_alone(shares) -> None:
    """Every run of several accounts at once, on what is left of their lots, as ledger.drawdown."""

    def lots_of(account: int) -> list[LotState]:
        made = [
            lot_state(id=10 * account + place, granted=granted, out=min(out, granted), price=price)
            for place, (granted, out, price) in enumerate(shares[account][0])
        ]
        return [*made, lot_state(id=10 * account + 9, granted=4 * 10**18, out=3, price=0)]

    accounts = [account for account in range(len(shares)) if sum(shares[account][1])]
    rows = np.zeros(sum(len(shares[account][1]) for account in accounts), RUN)
    rows["microtokens"] = [cost for account in accounts for cost in shares[account][1]]
    laid = Laid(
        **{
            name: np.zeros(len(rows), np.int64)
            for name in ("lot_ids", "out_before", "slices_counts", "micros")
        },
        crossing={},
    )
    together: list[Share] = []
    for account in accounts:
        begin = together[-1].end if together else 0
        serving = serving_all_through(lots_of(account), np.zeros(1, np.int64))
        assert serving is not None
        together.append(Share(serving, begin, begin + len(shares[account][1])))
    lay_end_to_end(together, rows, laid)
    for account, share in zip(accounts, together, strict=True):
        lots = lots_of(account)
        drawn = draw(lots, [(0, cost) for cost in shares[account][1]])
        for row, slices in enumerate(drawn, share.begin):
            if not slices:
                continue
            assert laid.slices_counts[row] == len(slices)
            assert laid.crossing.get(row, slices[:1]) == slices
            assert (laid.lot_ids[row], laid.out_before[row]) == slices[0][:2]
            assert laid.micros[row] == sum(one.micros for one in slices)
        out = {lot.id: lot.out_microtokens for lot in lots}
        assert all(lot.out_microtokens == out[lot.id] for lot in share.lots)


def lot_state(*, id: int, granted: int, out: int, price: int) -> LotState:  # noqa: A002
    return LotState(
        id=id,
        kind="prepaid" if granted < 100 else "debt",
        priority=0,
        effective_at_us=-1,
        expires_at_us=1,
        price_micros=price,
        tiers=None,
        issued_at_us=0,
        granted_microtokens=granted,
        out_microtokens=out,
    )


@pytest.mark.parametrize(
    ("effective_at_us", "expires_at_us", "serves"),
    [(5, 11, True), (6, 11, None), (5, 10, None), (0, 5, False), (11, 20, False), (10, 20, None)],
)
def test_a_lot_serves_all_runs_between_two_instants_or_some_or_none(
    effective_at_us: int, expires_at_us: int, serves: bool | None
) -> None:
    lot = lot_state(id=1, granted=9, out=0, price=0)
    lot.effective_at_us, lot.expires_at_us = effective_at_us, expires_at_us
    found = serving_all_through([lot], np.array([10, 5]))
    assert found == (None if serves is None else [lot] if serves else [])
