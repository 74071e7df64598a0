"""Platform fees and seats: deferred when a period begins, and earned by the day.

The days are those of the customer's own calendar. A change of plan adds what the rest of the period
costs more or less, to be earned in that rest. A period that is cancelled at once earns what is not
given back, all of it by the day of its end.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from django.db.models import QuerySet

from billing import money, terms
from billing.books import chart
from billing.books.standings import Day, Standing
from billing.models import Credit, Period, PlanChange, Subscription

# Periods that ended before this, and had been opened by then, are booked.
_LOOKED_BACK: Final = timedelta(days=3)


def days_earned(*, starts_on: date, ends_on: date, day: date) -> tuple[int, int]:
    """Of a period's days, in its own calendar, how many are over with `day`; and how many it has.

    A day is a day, whether it has 23 hours or 25.
    """
    days = max((ends_on - starts_on).days, 1)
    return min(max((day - starts_on).days + 1, 0), days), days


@dataclass(frozen=True, kw_only=True)
class _Fee:
    """What a span of a period's days earns; when the period ends sooner, all that is left of it."""

    subject: str
    period: Period
    starts_at: datetime
    micros: int

    @property
    def starts_on(self) -> date:
        return self._local(self.starts_at)

    @property
    def ends_on(self) -> date:
        return self._local(self.period.ends_at)

    def earned(self, day: date) -> int:
        if self.period.ends_at < self.period.term_ends_at and day >= self.ends_on:
            return self.micros
        term_ends_on = self._local(self.period.term_ends_at)
        over, days = days_earned(starts_on=self.starts_on, ends_on=term_ends_on, day=day)
        return self.micros * over // days

    def standing(self, debit: str, credit: str, micros: int, happened_on: date) -> Standing:
        customer = self.period.subscription.customer
        return Standing(
            subject=self.subject,
            customer_id=customer.pk,
            currency=customer.currency,
            debit=debit,
            credit=credit,
            micros=micros,
            happened_on=happened_on,
        )

    def _local(self, at: datetime) -> date:
        return at.astimezone(ZoneInfo(self.period.subscription.time_zone)).date()


def _fees(day: Day) -> list[_Fee]:
    """Fees of the days around this one."""
    if "fees" not in day.read:
        day.read["fees"] = list(_read(day))
    found: list[_Fee] = day.read["fees"]
    return found


def _read(day: Day) -> Iterator[_Fee]:
    recently = day.starts_at - _LOOKED_BACK
    own = Period.objects.filter(
        subscription__customer__vendor_id=day.vendor_id,
        starts_at__lt=day.ends_at + timedelta(days=1),
    )
    around = own.filter(ends_at__gte=recently) | own.filter(opened_at__gte=recently)
    yield from _of_periods(around)
    yield from _of_changes(around, until_at=day.ends_at)
    yield from _given_back(around, until_at=day.ends_at)


def _of_periods(around: QuerySet[Period]) -> Iterator[_Fee]:
    for period in around.select_related(
        "subscription__plan_version", "subscription__size", "subscription__customer"
    ):
        yield _Fee(
            subject=f"period:{period.pk}",
            period=period,
            starts_at=period.starts_at,
            micros=_fee_of(period.subscription),
        )


def _of_changes(around: QuerySet[Period], *, until_at: datetime) -> Iterator[_Fee]:
    for change in PlanChange.objects.filter(
        period__in=around, changed_at__lt=until_at
    ).select_related("period__subscription__customer"):
        yield _Fee(
            subject=f"change:{change.pk}",
            period=change.period,
            starts_at=change.changed_at,
            micros=change.fee_micros,
        )


def _given_back(around: QuerySet[Period], *, until_at: datetime) -> Iterator[_Fee]:
    for credit in Credit.objects.filter(
        period__in=around,
        reason=Credit.Reason.CANCELLATION,
        key__endswith=":fees",
        recorded_at__lt=until_at,
    ).select_related("period__subscription__customer"):
        assert credit.period is not None
        yield _Fee(
            subject=f"cancelled:{credit.period_id}",
            period=credit.period,
            starts_at=credit.period.ends_at,
            micros=-money.to_micros(credit.amount),
        )


def _fee_of(subscription: Subscription) -> int:
    """Platform fee and seats of a period."""
    billed_by = terms.of(subscription=subscription)
    seats = subscription.seats * money.to_micros(billed_by.seat_price)
    return money.to_micros(billed_by.platform_fee) + seats


def begun(day: Day) -> Iterator[Standing]:
    for fee in _fees(day):
        if fee.starts_on <= day.day:
            yield fee.standing(chart.UNBILLED_FEES, chart.DEFERRED_FEES, fee.micros, fee.starts_on)


def earned(day: Day) -> Iterator[Standing]:
    for fee in _fees(day):
        yield fee.standing(chart.DEFERRED_FEES, chart.REVENUE_FEES, fee.earned(day.day), day.day)
