"""The next invoice of a customer, as it would be if it were built now. Reads only.

It is drawn up by the very functions that build it: the closing of the oldest period that is still
to be closed, the opening of a subscription that is to begin, or, where neither is to come, what
came in late. What nobody has used yet is not on it, and a run that was accepted but not debited
yet (it takes seconds) is not either: the closing debits it first.
"""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import QuerySet
from djmoney.money import Money

from billing import closing, invoicing, overage, subscriptions
from billing.invoicing import DrawnUp
from billing.models import Customer, Invoice, InvoiceLine, Period, Subscription


@dataclass(frozen=True, kw_only=True)
class NextInvoice:
    """`due_at` is when it is built; None: a day after the last one, with all that is late by then.

    Without lines there is nothing to pay by now, and as things are no invoice would be built.
    """

    period: Period
    occasion: str
    due_at: datetime | None
    at: datetime
    lines: tuple[InvoiceLine, ...]
    total: Money
    is_carried: bool  # too small to be charged: it would stand on the one after


def next_invoice(*, customer: Customer, at: datetime) -> NextInvoice | None:
    """What the customer's next invoice would say now; None if none is to come."""
    open_ = _periods(customer).filter(closing__isnull=True).order_by("ends_at", "id").first()
    if open_ is not None:
        following = subscriptions.next_period(period=open_) or subscriptions.coming_period(
            subscription=open_.subscription
        )
        return of_period(period=open_, following=following, at=at)
    to_begin = (
        Subscription.objects.filter(customer=customer, cancelled_at__isnull=True)
        .select_related("customer", "plan_version")
        .first()
    )
    if to_begin is not None:
        return _of_opening(to_begin, at=at)
    return _of_what_is_late(customer, at=at)


def of_period(*, period: Period, following: Period | None, at: datetime) -> NextInvoice:
    """What the closing of a period would bill now, with this next one in advance."""
    bill = closing.priced(period=period, following=following)
    drawn_up = invoicing.draw_up(
        period=period,
        occasion=Invoice.Occasion.CLOSING,
        lines=bill.lines,
        to_come=overage.credits_of(steps=bill.steps),
        at=at,
    )
    return _shown(drawn_up, due_at=closing.closes_at(period=period), at=at)


def _of_opening(subscription: Subscription, *, at: datetime) -> NextInvoice | None:
    first = subscriptions.coming_period(subscription=subscription)
    if first is None:
        return None
    drawn_up = invoicing.draw_up(
        period=first,
        occasion=Invoice.Occasion.OPENING,
        lines=invoicing.lines_in_advance(period=first),
        at=at,
    )
    return _shown(drawn_up, due_at=first.starts_at, at=at)


def _of_what_is_late(customer: Customer, *, at: datetime) -> NextInvoice | None:
    steps = overage.late(customer=customer, lots=overage.lots_of(customer=customer))
    late = [line for step in steps for line in step.lines]
    last = _periods(customer).order_by("-ends_at", "-id").first()
    if not late or last is None:
        return None
    drawn_up = invoicing.draw_up(
        period=last,
        occasion=Invoice.Occasion.LATE,
        lines=late,
        to_come=overage.credits_of(steps=steps),
        at=at,
    )
    return _shown(drawn_up, due_at=None, at=at)


def _periods(customer: Customer) -> QuerySet[Period]:
    return Period.objects.filter(subscription__customer=customer).select_related(
        "subscription__customer", "subscription__plan_version"
    )


def _shown(drawn_up: DrawnUp, *, due_at: datetime | None, at: datetime) -> NextInvoice:
    return NextInvoice(
        period=drawn_up.invoice.period,
        occasion=drawn_up.invoice.occasion,
        due_at=due_at,
        at=at,
        lines=drawn_up.lines,
        total=drawn_up.total,
        is_carried=drawn_up.is_too_small,
    )
