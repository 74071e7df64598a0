"""Instants as whole microseconds since 1970, the form in which the fast path compares them."""

from datetime import UTC, datetime, timedelta
from typing import Final

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)


def to_us(instant: datetime) -> int:
    """Exact; `instant` must carry its time zone."""
    return (instant - EPOCH) // MICROSECOND


def from_us(microseconds: int) -> datetime:
    return EPOCH + microseconds * MICROSECOND
