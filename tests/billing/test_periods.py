from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing import periods


def local(time_zone, year, month, day, hour=0, minute=0):
    return datetime(year, month, day, hour, minute, tzinfo=ZoneInfo(time_zone))


def span(anchor, number, *, time_zone, term_months=1):
    return periods.span(anchor=anchor, term_months=term_months, number=number, time_zone=time_zone)


def test_periods_from_31_january_end_on_the_last_day_and_come_back_to_the_31st():
    anchor = local("Europe/Paris", 2026, 1, 31)
    starts = [span(anchor, number, time_zone="Europe/Paris").starts_at for number in range(1, 6)]
    paris = [start.astimezone(ZoneInfo("Europe/Paris")).date() for start in starts]
    assert paris == [
        date(2026, 1, 31),
        date(2026, 2, 28),
        date(2026, 3, 31),
        date(2026, 4, 30),
        date(2026, 5, 31),
    ]


def test_february_of_a_leap_year_has_29_days():
    anchor = local("Europe/Paris", 2028, 1, 31)
    end = span(anchor, 1, time_zone="Europe/Paris").ends_at
    assert end == local("Europe/Paris", 2028, 2, 29)


def test_a_month_in_tokyo_ends_at_15_hours_utc_not_nine_hours_late():
    anchor = local("Asia/Tokyo", 2026, 10, 1)
    assert span(anchor, 1, time_zone="Asia/Tokyo") == periods.Span(
        starts_at=datetime(2026, 9, 30, 15, tzinfo=UTC),
        ends_at=datetime(2026, 10, 31, 15, tzinfo=UTC),
    )


def test_a_month_is_a_calendar_month_not_30_days():
    anchor = local("UTC", 2026, 1, 1)
    lengths = [
        (found := span(anchor, number, time_zone="UTC")).ends_at - found.starts_at
        for number in (1, 2, 4)
    ]
    assert lengths == [timedelta(days=31), timedelta(days=28), timedelta(days=30)]


def test_months_with_a_clock_change_have_an_hour_less_or_more():
    anchor = local("Europe/Paris", 2026, 1, 1)
    march, october = (span(anchor, number, time_zone="Europe/Paris") for number in (3, 10))
    assert march.ends_at - march.starts_at == timedelta(days=31, hours=-1)
    assert october.ends_at - october.starts_at == timedelta(days=31, hours=1)


def test_a_local_time_that_the_clocks_skip_is_taken_after_the_change():
    skipped = periods.months_after(
        anchor=local("Europe/Paris", 2026, 1, 29, 2, 30), months=2, time_zone="Europe/Paris"
    )
    assert skipped == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    assert skipped.astimezone(ZoneInfo("Europe/Paris")).hour == 3


def test_a_local_time_that_comes_twice_is_taken_the_first_time():
    twice = periods.months_after(
        anchor=local("Europe/Paris", 2026, 9, 25, 2, 30), months=1, time_zone="Europe/Paris"
    )
    assert twice == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


anchors = st.integers(1_577_836_800, 1_893_456_000).map(
    lambda seconds: datetime.fromtimestamp(seconds, UTC)
)
zones = st.sampled_from(["UTC", "Europe/Paris", "Asia/Tokyo", "America/New_York", "Asia/Kathmandu"])


@given(anchors, zones, st.sampled_from([1, 3, 12]), st.integers(1, 40))
def test_periods_follow_one_another_without_gap_or_overlap(anchor, zone, term, number):
    this = span(anchor, number, time_zone=zone, term_months=term)
    following = span(anchor, number + 1, time_zone=zone, term_months=term)
    assert this.starts_at < this.ends_at == following.starts_at
    assert span(anchor, 1, time_zone=zone, term_months=term).starts_at == anchor


def test_a_span_reads_in_the_customers_days():
    found = span(local("Asia/Tokyo", 2026, 10, 1), 1, time_zone="Asia/Tokyo")
    said = periods.span_text(
        starts_at=found.starts_at, ends_at=found.ends_at, time_zone="Asia/Tokyo"
    )
    assert said == "1 October 2026 to 1 November 2026"


@pytest.mark.parametrize(("hours", "left"), [(-5, 100), (0, 100), (1, 75), (3, 25), (4, 0), (9, 0)])
def test_what_is_left_of_a_span_is_all_before_it_and_nothing_after_it(hours, left):
    start = datetime(2026, 10, 1, tzinfo=UTC)
    found = periods.share_left(
        100,
        starts_at=start,
        ends_at=start + timedelta(hours=4),
        at=start + timedelta(hours=hours),
    )
    assert found == left


def test_days_after_keep_the_local_time_over_a_clock_change():
    anchor = datetime(2026, 10, 20, 8, tzinfo=UTC)
    found = periods.days_after(anchor=anchor, days=14, time_zone="Europe/Paris")
    assert found == datetime(2026, 11, 3, 9, tzinfo=UTC)
