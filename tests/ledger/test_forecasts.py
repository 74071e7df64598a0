"""When tokens run out, and what expires unused: a range with its basis, or not enough data."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import accounts, corrections, folding, forecasts, queries
from ledger.errors import UnknownAccount
from ledger.forecasts import DAYS_MIN, HORIZON_DAYS, Forecast, NotEnoughData, Supply, forecast
from tests.ledger.builders import (
    HOUR,
    NOON,
    debit,
    make_lot,
    make_overage,
    make_run,
)

DAY = timedelta(days=1)
# A Monday, in the morning's first minute.
AT = datetime(2026, 6, 15, tzinfo=UTC)
TODAY = AT.date()


def supply(
    microtokens: int,
    *,
    expires_in: int | None = None,
    begins_in: int = -9,
    lot_id: int = 1,
    priority: int = 0,
    rollover_max: int = 0,
    rollover_until: int | None = None,
) -> Supply:
    return Supply(
        lot_id=lot_id,
        priority=priority,
        issued_at=AT - 9 * DAY,
        effective_at=AT + begins_in * DAY,
        expires_at=None if expires_in is None else AT + expires_in * DAY,
        is_paid=True,
        remaining_microtokens=microtokens,
        rollover_microtokens_max=rollover_max,
        rollover_expires_at=None if rollover_until is None else AT + rollover_until * DAY,
    )


def told(
    daily: Sequence[int], supplies: Sequence[Supply], *, at: datetime = AT, time_zone: str = "UTC"
) -> Forecast:
    found = forecast(daily_microtokens=daily, supplies=supplies, time_zone=time_zone, at=at)
    assert isinstance(found, Forecast)
    return found


def days_from_today(day: date | None) -> int | None:
    return None if day is None else (day - TODAY).days


def run_out(found: Forecast) -> list[int | None]:
    days = (found.run_out.earliest_on, found.run_out.likely_on, found.run_out.latest_on)
    return [days_from_today(day) for day in days]


EVEN = [10] * 28


def test_even_use_runs_out_on_one_day() -> None:
    # Ten days' use is there: the eleventh, ten days from today, finds nothing.
    assert run_out(told(EVEN, [supply(100)])) == [10, 10, 10]
    assert run_out(told(EVEN, [supply(101)])) == [10, 10, 10]
    assert run_out(told(EVEN, [supply(99)])) == [9, 9, 9]
    assert run_out(told(EVEN, [])) == [0, 0, 0]


def test_weeks_that_differ_give_a_range_and_the_basis_is_stated() -> None:
    found = told([10] * 14 + [20] * 7 + [40] * 7, [supply(400)])
    assert run_out(found) == [10, 20, 40]
    basis = found.basis
    assert (basis.from_on, basis.until_on, basis.weeks_count) == (TODAY - 28 * DAY, TODAY, 4)
    weeks = (
        basis.week_microtokens_least, basis.week_microtokens_likely, basis.week_microtokens_most,
    )  # fmt: skip
    assert weeks == (70, 140, 280)


def test_days_of_the_week_have_their_share() -> None:
    # Weekdays cost 10, Saturday and Sunday nothing; the window begins with a Monday.
    daily = ([10] * 5 + [0] * 2) * 4
    assert run_out(told(daily, [supply(50)])) == [7, 7, 7], "not on a Saturday"
    assert run_out(told(daily, [supply(49)])) == [4, 4, 4]


def test_only_whole_weeks_at_most_four_count() -> None:
    assert told([1000] * 3 + EVEN, [supply(100)]).basis.week_microtokens_most == 70
    found = told([1000] * 6 + [10] * 14, [supply(100)])
    assert found.basis.weeks_count == 2
    assert run_out(found) == [10, 10, 10]


@pytest.mark.parametrize("days_count", [0, 1, DAYS_MIN - 1])
def test_less_than_two_weeks_of_use_is_not_enough(days_count) -> None:
    found = forecast(
        daily_microtokens=[10] * days_count, supplies=[supply(9)], time_zone="UTC", at=AT
    )
    assert isinstance(found, NotEnoughData)
    assert (found.days_count, found.days_needed) == (days_count, DAYS_MIN)
    assert found.reason == f"{days_count} full days of use are known; a forecast needs 14"
    assert isinstance(
        forecast(daily_microtokens=[10] * 14, supplies=[], time_zone="UTC", at=AT), Forecast
    )


def test_without_use_nothing_runs_out_and_all_expires() -> None:
    found = told([0] * 28, [supply(5, expires_in=30)])
    assert run_out(found) == [None, None, None]
    [unused] = found.unused
    assert (unused.least_microtokens, unused.most_microtokens) == (5, 5)


def test_what_lasts_beyond_the_horizon_has_no_date() -> None:
    assert run_out(told(EVEN, [supply(10 * HORIZON_DAYS)])) == [None, None, None]
    last = HORIZON_DAYS - 1
    assert run_out(told(EVEN, [supply(10 * HORIZON_DAYS - 1)])) == [last, last, last]


def test_what_expires_before_its_turn_is_not_counted_on() -> None:
    soon, late = supply(1000, expires_in=3), supply(50, lot_id=2)
    found = told(EVEN, [late, soon])
    assert run_out(found) == [8, 8, 8]
    [unused] = found.unused
    assert unused.lot_id == 1
    assert unused.expires_at == AT + 3 * DAY
    assert unused.likely_microtokens == 1000 - 30


def test_the_draw_down_order_decides_what_expires() -> None:
    first = supply(100, priority=0)
    promised = supply(40, priority=1, expires_in=5, lot_id=2)
    [unused] = told(EVEN, [first, promised]).unused
    assert (unused.lot_id, unused.likely_microtokens) == (2, 40), "its turn would come too late"


def test_what_is_lost_is_a_range_too() -> None:
    daily = [10] * 14 + [20] * 7 + [40] * 7
    [unused] = told(daily, [supply(300, expires_in=10)]).unused
    lost = (unused.least_microtokens, unused.likely_microtokens, unused.most_microtokens)
    assert lost == (0, 100, 200)


def test_a_lot_that_is_yet_to_begin_is_drawn_from_then_on() -> None:
    assert run_out(told(EVEN, [supply(20), supply(100, begins_in=2, lot_id=2)])) == [12] * 3
    assert run_out(told(EVEN, [supply(20), supply(100, begins_in=3, lot_id=2)])) == [2] * 3


def test_what_rolls_over_is_drawn_from_then_on() -> None:
    lot = supply(100, expires_in=5, rollover_max=30, rollover_until=9)
    found = told(EVEN, [lot])
    # Five days' use, then 30 of the 50 that are left: three days more.
    assert run_out(found) == [8, 8, 8]
    [unused, rolled] = found.unused
    assert (unused.likely_microtokens, unused.likely_rolls_over_microtokens) == (50, 30)
    assert (rolled.lot_id, rolled.rolled_from_lot_id, rolled.likely_microtokens) == (None, 1, 0)
    found = told(EVEN, [replace(lot, rollover_expires_at=AT + 6 * DAY)])
    assert run_out(found) == [6, 6, 6]
    assert [one.likely_microtokens for one in found.unused] == [50, 20]


def test_what_rolls_over_is_there_at_the_very_instant_at_which_its_lot_expires() -> None:
    lot = supply(100, expires_in=5, rollover_max=30, rollover_until=9)
    # Noon is when a day's use is drawn.
    at_noon = replace(lot, expires_at=AT + 5 * DAY + 12 * HOUR)
    assert run_out(told(EVEN, [at_noon])) == [8, 8, 8]


def test_a_lot_that_has_expired_is_no_supply() -> None:
    found = told(EVEN, [supply(100, expires_in=0)])
    assert run_out(found) == [0, 0, 0]
    assert found.unused == ()


def test_of_today_only_what_is_left_of_it_is_to_come() -> None:
    evening = AT + timedelta(hours=18)
    # Two and a half of today's ten are still to come.
    assert run_out(told(EVEN, [supply(2)], at=evening)) == [1, 1, 1]
    assert run_out(told(EVEN, [supply(12)], at=evening)) == [2, 2, 2]
    assert run_out(told(EVEN, [supply(11)], at=evening)) == [1, 1, 1]


def test_days_are_those_of_the_accounts_time_zone() -> None:
    at = datetime(2026, 6, 15, 20, tzinfo=UTC)
    found = told(EVEN, [supply(100)], at=at, time_zone="Asia/Tokyo")
    assert found.basis.until_on == date(2026, 6, 16)


@settings(max_examples=30)
@given(
    daily=st.lists(st.integers(0, 9), min_size=14, max_size=28),
    lots=st.lists(
        st.tuples(st.integers(1, 60), st.none() | st.integers(1, 20), st.integers(-2, 9)),
        max_size=4,
    ),
)
def test_more_use_runs_out_no_later_and_leaves_no_more(daily, lots) -> None:
    supplies = [
        supply(
            microtokens, expires_in=lasts and begins + 9 + lasts, begins_in=begins, lot_id=number
        )
        for number, (microtokens, lasts, begins) in enumerate(lots, 1)
    ]
    found = told(daily, supplies)
    run_outs = [HORIZON_DAYS if day is None else day for day in run_out(found)]
    assert run_outs == sorted(run_outs)
    for one in found.unused:
        assert 0 <= one.least_microtokens <= one.likely_microtokens <= one.most_microtokens
    assert all(isinstance(one.likely_microtokens, int) for one in found.unused)


def use_daily(shop, days_count: int, executions: int = 10) -> None:
    """On each of the days before NOON's."""
    debit(
        shop, [make_run(executions, at=NOON - number * DAY) for number in range(1, days_count + 1)]
    )


def test_the_forecast_of_an_account_is_of_its_own_use_and_lots(shop, account_id) -> None:
    make_lot(account_id, 10 * 28 + 100, from_hours=-24 * 40)
    lot_id = make_lot(account_id, 1000, hours=24 * 3, from_hours=0, priority=1)
    make_overage(account_id)
    use_daily(shop, 28)
    for _ in range(2):
        found = forecasts.of_account(account_id=account_id, at=NOON)
        assert isinstance(found, Forecast)
        # Half of today's ten, then ten a day.
        assert found.run_out.likely_on == TODAY + 10 * DAY
        assert [one.lot_id for one in found.unused] == [lot_id]
        folding.fold_all()


def test_a_top_up_is_no_negative_use_and_neither_is_an_expiry(shop, account_id) -> None:
    use_daily(shop, 28)
    before = forecasts.daily(account_id=account_id, time_zone="UTC", at=NOON)
    assert before == EVEN
    make_lot(account_id, 10_000, at=NOON - 5 * DAY)
    make_lot(account_id, 10_000, hours=-24, at=NOON - 5 * DAY)
    assert forecasts.daily(account_id=account_id, time_zone="UTC", at=NOON) == before
    found = forecasts.of_account(account_id=account_id, at=NOON)
    assert isinstance(found, Forecast)
    assert found.basis.week_microtokens_most == 70


def test_a_run_that_was_voided_was_no_use(shop, account_id) -> None:
    use_daily(shop, 28)
    debit(shop, [make_run(500, run_id="wrong", at=NOON - DAY)])
    corrections.void(
        account=accounts.account(account_id=account_id),
        run_id="wrong",
        reason="sent by mistake",
        idempotency_key="void",
        at=NOON,
    )
    assert forecasts.daily(account_id=account_id, time_zone="UTC", at=NOON) == EVEN


def test_days_before_the_first_use_say_nothing_and_days_between_say_nothing_was_used(
    shop, account_id
) -> None:
    found = forecasts.of_account(account_id=account_id, at=NOON)
    assert isinstance(found, NotEnoughData)
    use_daily(shop, 5)
    assert forecasts.daily(account_id=account_id, time_zone="UTC", at=NOON) == [10] * 5
    debit(shop, [make_run(1, at=NOON - 8 * DAY)])
    daily = forecasts.daily(account_id=account_id, time_zone="UTC", at=NOON)
    assert daily == [1, 0, 0, *[10] * 5]
    debit(shop, [make_run(1, at=NOON - 100 * DAY)])
    daily = forecasts.daily(account_id=account_id, time_zone="UTC", at=NOON)
    assert len(daily) == 28
    assert sum(daily) == 51


def test_an_unknown_account_has_no_forecast(db: None) -> None:
    with pytest.raises(UnknownAccount):
        forecasts.of_account(account_id=7, at=NOON)


def test_it_agrees_with_what_then_happens(shop, account_id) -> None:
    """Two lots, one of which expires: the runs of the forecast are made, and find what it said."""
    use_daily(shop, 14)
    make_lot(account_id, 14 * 10 + 200, hours=24 * 4, at=NOON)
    make_lot(account_id, 30, at=NOON)
    at = AT
    found = forecasts.of_account(account_id=account_id, at=at)
    assert isinstance(found, Forecast)
    [unused] = found.unused
    day = 0
    while not queries.balances(account_ids=[account_id], at=at)[account_id].debt_microtokens:
        debit(shop, [make_run(10, at=AT + day * DAY + 12 * HOUR)], at=AT + (day + 1) * DAY)
        day += 1
    assert found.run_out.likely_on == TODAY + (day - 1) * DAY
    [left] = [
        lot.remaining_microtokens
        for lot in queries.lots(account_ids=[account_id])
        if lot.id == unused.lot_id
    ]
    assert left == unused.likely_microtokens
