"""The closing of a period: a sequence of steps, done once, that can be killed anywhere.

    ends_at + grace ─▶ drain ─▶ alert ─▶ settle ─▶ renew ─▶ bill ─▶ (outbox) ─▶ Stripe
                                └────── one transaction ───────┘

`drain` debits every run that was accepted, so that late ones find their lots. `alert` tells of the
thresholds that they reached. `settle` rolls over and expires what the allotment has left. `renew`
makes sure that the next period is open. `bill` prices the overage and builds the invoice: late
overage of periods closed before, this period's overage tier by tier, what it lacks of its
commitment, and platform fee and allotment of the next period in advance. Each step leaves a
fact, and finds it when it is repeated.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction
from django.db.models import DateTimeField, ExpressionWrapper, F, QuerySet

from billing import (
    alerts,
    customers,
    invoicing,
    overage,
    statements,
    subscriptions,
    sweeps,
    terms,
)
from billing.errors import PeriodNotOver
from billing.invoicing import NewLine
from billing.models import Customer, Invoice, Period, PeriodClosing, PeriodSettlement
from billing.overage import Step
from ledger import debiting, grants, limits

PERIODS_PER_SWEEP_MAX: Final = 200
LATE_AFTER: Final = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Bill:
    """What a closing bills."""

    late: tuple[Step, ...]  # of periods closed before
    overage: Step | None
    true_up: tuple[NewLine, ...]
    in_advance: tuple[NewLine, ...]  # of the next period

    @property
    def lines(self) -> list[NewLine]:
        overage = [line for step in self.steps for line in step.lines]
        return [*overage, *self.true_up, *self.in_advance]

    @property
    def steps(self) -> list[Step]:
        return [*self.late, self.overage] if self.overage else [*self.late]


def due(*, at: datetime) -> QuerySet[Period]:
    """Periods whose grace is over and that are not closed, oldest first."""
    over = Period.objects.filter(closing__isnull=True, ends_at__lte=at).annotate(
        closes_at=ExpressionWrapper(
            F("ends_at") + F("subscription__plan_version__grace"), output_field=DateTimeField()
        )
    )
    return over.filter(closes_at__lte=at).order_by("ends_at", "id")


def close_due(*, at: datetime) -> int:
    """Close every period whose grace is over, oldest first; how many were closed.

    Several workers may do this at once: a customer whom one of them has is left to it. A period
    that cannot be closed waits for the next sweep.
    """

    def close_one(period_id: int) -> int:
        return int(_close(period_id, waits=False, at=at))

    return sweeps.each(
        list(due(at=at).values_list("id", flat=True)),
        close_one,
        what="closing of a period",
        items_max=PERIODS_PER_SWEEP_MAX,
    )


def close(*, period_id: int, at: datetime) -> None:
    """Close one period. Closing it again changes nothing. Raises PeriodNotOver."""
    _close(period_id, waits=True, at=at)


def _close(period_id: int, *, waits: bool, at: datetime) -> bool:
    """Whether it was closed now. Not if it was before, or if another worker has the customer and
    is not to be waited for."""
    ended = _periods().get(pk=period_id)
    drain(period=ended, at=at)
    with transaction.atomic():
        period = _locked(period_id, ended.subscription.customer_id, waits=waits)
        if period is None or hasattr(period, "closing"):
            return False
        for step in STEPS:
            step(period=period, at=at)
    return True


def bill_late(*, at: datetime) -> int:
    """Invoice overage that came in after a customer's last closing; how many invoices it built.

    The next closing bills what is late. For a customer who has none to come, the sweep does, a day
    after the last invoice, so that a day's stragglers stand on one.
    """

    def bill_one(customer_id: int) -> int:
        return int(_bill_late_of(customer_id, at=at) is not None)

    return sweeps.each(
        overage.customers_left_late(),
        bill_one,
        what="late overage of a customer",
        items_max=PERIODS_PER_SWEEP_MAX,
    )


def drain(*, period: Period, at: datetime) -> None:
    """Debit what was accepted before the closing and still waits. In transactions of its own."""
    if closes_at(period=period) > at:
        raise PeriodNotOver(period_id=period.pk, closes_at=closes_at(period=period))
    debiting.drain_all(account_ids=[period.subscription.customer.account_id], at=at)


def alert(*, period: Period, at: datetime) -> None:
    """Tell of thresholds that late runs reached: nobody looks at the period after its settling."""
    alerts.look(period=period, at=at)


def settle(*, period: Period, at: datetime) -> None:
    """Roll over and expire what is left of the allotment, and write down what became of it."""
    if hasattr(period, "settlement"):
        return
    if period.soft_cap_limit_id is not None:
        limits.end_limit(
            account_id=period.subscription.customer.account_id,
            limit_id=period.soft_cap_limit_id,
            at=at,
        )
    for change in period.changes.exclude(allotment_lot_id=None):
        grants.close_lot(lot_id=change.allotment_lot_id or 0, at=at)
    closed = None
    if period.allotment_lot_id is not None:
        closed = grants.close_lot(lot_id=period.allotment_lot_id, at=at)
    PeriodSettlement.objects.create(
        period=period,
        rolled_microtokens=0 if closed is None else closed.rolled_microtokens,
        rolled_micros=0 if closed is None else closed.rolled_micros,
        rolled_lot_id=None if closed is None else closed.rolled_lot_id,
        expired_microtokens=0 if closed is None else closed.expired_microtokens,
        expired_micros=0 if closed is None else closed.expired_micros,
        settled_at=at,
    )


def renew(*, period: Period, at: datetime) -> None:
    """Open the next period, if there is to be one and nobody has opened it yet."""
    subscriptions.renew(subscription_id=period.subscription_id, at=at)


def bill(*, period: Period, at: datetime) -> None:
    """Price the overage and build the invoice; with it the period is closed.

    What its cost centres used by then is written down: their statements go by it.
    """
    if hasattr(period, "closing"):
        return
    bill_of = priced(period=period, following=subscriptions.next_period(period=period))
    overage.write(steps=bill_of.steps, at=at)
    invoice = invoicing.build(
        period=period, occasion=Invoice.Occasion.CLOSING, lines=bill_of.lines, at=at
    )
    statements.write_down_use(period=period)
    PeriodClosing.objects.create(
        period=period,
        overage_microtokens=bill_of.overage.row.to_microtokens if bill_of.overage else 0,
        overage_micros=bill_of.overage.row.micros if bill_of.overage else 0,
        invoice=invoice,
        closed_at=at,
    )


def closes_at(*, period: Period) -> datetime:
    """When the period's grace is over."""
    return period.ends_at + period.subscription.plan_version.grace


def priced(*, period: Period, following: Period | None) -> Bill:
    """What a closing of the period would bill now, and the next period in advance, if there is one.

    Writes nothing: `bill` builds the invoice of it, and billing.previews shows it.
    """
    customer = period.subscription.customer
    lots = overage.lots_of(customer=customer)
    own = overage.at_closing(period=period, lots=lots)
    lines = own.lines if own else ()
    return Bill(
        late=tuple(overage.late(customer=customer, lots=lots)),
        overage=own,
        true_up=tuple(invoicing.true_up_lines(period=period, overage=lines)),
        in_advance=(
            ()
            if following is None or terms.of(subscription=following.subscription).grants_on_payment
            else tuple(invoicing.lines_in_advance(period=following))
        ),
    )


def _bill_late_of(customer_id: int, *, at: datetime) -> Invoice | None:
    with transaction.atomic():
        customer = Customer.objects.select_for_update(no_key=True).get(pk=customer_id)
        last = Period.objects.filter(subscription__customer=customer).order_by("-ends_at")[0]
        if not hasattr(last, "closing") or last.closing.closed_at > at - LATE_AFTER:
            return None
        if customer.invoices.filter(occasion="late", built_at__gt=at - LATE_AFTER).exists():
            return None
        steps = overage.late(customer=customer, lots=overage.lots_of(customer=customer))
        overage.write(steps=steps, at=at)
        return invoicing.build(
            period=last,
            occasion=Invoice.Occasion.LATE,
            lines=[line for step in steps for line in step.lines],
            at=at,
        )


STEPS: Final[tuple[Callable[..., None], ...]] = (alert, settle, renew, bill)


def _periods() -> QuerySet[Period]:
    return Period.objects.select_related(
        "subscription__customer", "subscription__plan_version", "subscription__size"
    )


def _locked(period_id: int, customer_id: int, *, waits: bool) -> Period | None:
    """The period, with whatever is known of its end. Its customer is locked first: two of its
    periods must not find the same late overage."""
    if not customers.lock(customer_id=customer_id, waits=waits):
        return None
    locked = _periods().select_for_update(no_key=True, of=("self",))
    return locked.select_related("settlement", "closing").get(pk=period_id)
