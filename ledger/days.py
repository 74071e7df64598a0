"""Where hours, days and months begin in a time zone.

Usage is shown by the account's own hours, days and months. Blocks count it in quarters of an
hour since 1970 (ledger.totals), with which all of those begin: offsets from UTC have been whole
quarters of an hour for as long as runs are taken back.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Final, Literal
from zoneinfo import ZoneInfo

from ledger.instants import from_us
from ledger.totals import QUARTER_US

Granularity = Literal["hour", "day", "month"]

HOUR: Final = timedelta(hours=1)


@lru_cache(maxsize=100_000)
def of_quarter(quarter: int, time_zone: str) -> tuple[datetime, datetime, datetime]:
    """When the hour, the day and the month began in which a quarter of an hour lies."""
    instant = from_us(quarter * QUARTER_US)
    return (
        begin(instant, "hour", time_zone),
        begin(instant, "day", time_zone),
        begin(instant, "month", time_zone),
    )


def begin(instant: datetime, granularity: Granularity, time_zone: str) -> datetime:
    """When the hour, day or month began in which an instant lies; in UTC."""
    local = instant.astimezone(ZoneInfo(time_zone))
    if granularity == "hour":
        # By the clock that the instant itself has: an hour that comes twice is two.
        into = timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
        return instant.astimezone(UTC) - into
    return midnight(
        local.date() if granularity == "day" else local.date().replace(day=1), time_zone
    )


def midnight(day: date, time_zone: str) -> datetime:
    """The first instant of a day; in UTC. Where clocks skip midnight, the day begins after it."""
    return datetime.combine(day, time(0), ZoneInfo(time_zone)).astimezone(UTC)


def local_date(instant: datetime, time_zone: str) -> date:
    return instant.astimezone(ZoneInfo(time_zone)).date()


def next_begin(begins_at: datetime, granularity: Granularity, time_zone: str) -> datetime:
    """When the next day or month begins after one that begins at `begins_at`."""
    day = local_date(begins_at, time_zone)
    if granularity == "day":
        return midnight(day + timedelta(days=1), time_zone)
    return midnight((day.replace(day=1) + timedelta(days=32)).replace(day=1), time_zone)


def next_or_same(instant: datetime, granularity: Granularity, time_zone: str) -> datetime:
    """The first day or month that begins at an instant or after it."""
    begins_at = begin(instant, granularity, time_zone)
    return begins_at if begins_at == instant else next_begin(begins_at, granularity, time_zone)


def dates(from_on: date, until_on: date) -> Iterator[date]:
    """Every day of [from_on, until_on)."""
    return (from_on + timedelta(days=number) for number in range((until_on - from_on).days))
