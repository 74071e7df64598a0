"""Calendar periods that follow from an anchor, in the customer's time zone.

A period's bounds are computed from the anchor, never from the period before, so that 31 January
leads to 28 February and then to 31 March. Local time decides: a day with a clock change has 23
or 25 hours, and a month in Tokyo ends at 15:00 UTC. An instant that the clocks skip is taken as
far after the change as it would have been; one that comes twice is taken the first time.
"""

from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

_MOMENT: Final = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class Span:
    """From `starts_at` (inclusive) to `ends_at` (exclusive)."""

    starts_at: datetime
    ends_at: datetime


def months_after(*, anchor: datetime, months: int, time_zone: str) -> datetime:
    """The same day and local time, so many calendar months later; the last day if there is none."""
    assert anchor.tzinfo is not None
    local = anchor.astimezone(ZoneInfo(time_zone))
    year, month = divmod(local.year * 12 + local.month - 1 + months, 12)
    month += 1
    day = min(local.day, monthrange(year, month)[1])
    if months == 0:
        return anchor.astimezone(UTC)
    return local.replace(year=year, month=month, day=day, fold=0).astimezone(UTC)


def span(
    *, anchor: datetime, months_before: int = 0, term_months: int, number: int, time_zone: str
) -> Span:
    """The bounds of period `number` (from 1) of terms that begin so long after the anchor."""
    assert number >= 1
    starts, ends = (months_before + n * term_months for n in (number - 1, number))
    return Span(
        starts_at=months_after(anchor=anchor, months=starts, time_zone=time_zone),
        ends_at=months_after(anchor=anchor, months=ends, time_zone=time_zone),
    )


def days_after(*, anchor: datetime, days: int, time_zone: str) -> datetime:
    """The same local time, so many calendar days later."""
    assert anchor.tzinfo is not None
    if days == 0:
        return anchor.astimezone(UTC)
    local = anchor.astimezone(ZoneInfo(time_zone)) + timedelta(days=days)
    return local.replace(fold=0).astimezone(UTC)


def share_left(amount: int, *, starts_at: datetime, ends_at: datetime, at: datetime) -> int:
    """Of an amount for a whole span, what falls to what of it is left at an instant; rounded down.

    To the microsecond.
    """
    whole, left = ((ends_at - since) // _MOMENT for since in (starts_at, max(at, starts_at)))
    return amount * max(left, 0) // whole


def date_text(instant: datetime, time_zone: str) -> str:
    """The local day as a person reads it: 1 November 2026."""
    return day_text(instant.astimezone(ZoneInfo(time_zone)).date())


def day_text(day: date) -> str:
    return f"{day.day} {day:%B %Y}"


def span_text(*, starts_at: datetime, ends_at: datetime, time_zone: str) -> str:
    return f"{date_text(starts_at, time_zone)} to {date_text(ends_at, time_zone)}"
