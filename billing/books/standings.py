"""What a posting rule tells of a thing, and what it reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from ledger.worths import LotWorth


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """How much of a thing there is to book in all, up to the end of a day."""

    subject: str
    customer_id: int
    currency: str
    debit: str
    credit: str
    micros: int
    happened_on: date


@dataclass(frozen=True, kw_only=True)
class Day:
    """What rules read: a vendor's day, and its lots as they stand at the end of it."""

    vendor_id: int
    day: date
    customer_ids: Mapping[int, int]  # by account
    worths: Sequence[LotWorth]
    read: dict[str, Any] = field(default_factory=dict)  # once for several rules

    @property
    def starts_at(self) -> datetime:
        return datetime(self.day.year, self.day.month, self.day.day, tzinfo=UTC)

    @property
    def ends_at(self) -> datetime:
        return self.starts_at + timedelta(days=1)
