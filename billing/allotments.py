"""The tokens that a plan grants for each period: at its beginning, or when its invoice is paid."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from billing import money, periods, pricing, terms
from billing.models import Invoice, InvoiceLine, PaidAllotment, Period, Subscription
from billing.periods import Span
from ledger import grants

ALLOTMENT_PRIORITY: Final = 50  # equal priorities: the lot that expires sooner serves first


def span(subscription: Subscription, number: int) -> Span:
    """From when to when a period of a subscription goes."""
    return periods.span(
        anchor=subscription.starts_at,
        months_before=subscription.months_before,
        term_months=subscription.plan_version.term_months,
        number=number,
        time_zone=subscription.time_zone,
    )


def grant(*, period: Period, at: datetime) -> int | None:
    """Grant a period's allotment as it is opened; None if there is none, or not before payment."""
    billed_by = terms.of(subscription=period.subscription)
    if not billed_by.allotment_microtokens or billed_by.grants_on_payment:
        return None
    return _grant(period, starts_at=period.starts_at, ends_at=period.ends_at, at=at)


def grant_paid(*, invoice: Invoice, paid_at: datetime) -> None:
    """Grant what waited for the payment of this invoice. Told again, nothing changes.

    Runs before the payment do not find these tokens. What is paid after its period is over lives
    as long as a period from then on.
    """
    for period in _waiting(invoice):
        starts_at, ends_at = max(period.starts_at, paid_at), period.ends_at
        if ends_at <= starts_at:
            ends_at = _a_term_after(period, starts_at)
        lot_id = _grant(period, starts_at=starts_at, ends_at=ends_at, at=starts_at)
        PaidAllotment.objects.create(
            period=period, invoice=invoice, lot_id=lot_id, granted_at=starts_at
        )


def lot_of(period: Period) -> int | None:
    """The lot that the plan granted for a period, whichever way."""
    paid = getattr(period, "paid_allotment", None)
    return period.allotment_lot_id if paid is None else paid.lot_id


def _waiting(invoice: Invoice) -> Iterator[Period]:
    """Periods whose allotment stands on the invoice, or on one too small that it carries."""
    lines = InvoiceLine.objects.filter(invoice=invoice).select_related(
        "period__subscription__customer", "period__subscription__plan_version", "carried_from"
    )
    for line in lines:
        if line.carried_from is not None:
            yield from _waiting(line.carried_from)
        if line.kind != InvoiceLine.Kind.ALLOTMENT:
            continue
        period = line.period
        is_granted = period.allotment_lot_id is not None or hasattr(period, "paid_allotment")
        if not is_granted and terms.of(subscription=period.subscription).grants_on_payment:
            yield period


def _grant(period: Period, *, starts_at: datetime, ends_at: datetime, at: datetime) -> int:
    subscription = period.subscription
    billed_by = terms.of(subscription=subscription)
    return grants.grant(
        account_id=subscription.customer.account_id,
        microtokens=billed_by.allotment_microtokens,
        source="allotment",
        price_micros=money.to_micros(billed_by.allotment_price),
        currency=billed_by.currency,
        priority=ALLOTMENT_PRIORITY,
        effective_at=starts_at,
        expires_at=ends_at,
        grace=billed_by.grace,
        rollover_microtokens_max=pricing.rollover_microtokens_max(
            allotment_microtokens=billed_by.allotment_microtokens,
            basis_points=billed_by.rollover_basis_points,
        ),
        rollover_expires_at=(
            span(subscription, period.number + 1).ends_at
            if ends_at <= period.ends_at
            else _a_term_after(period, ends_at)
        ),
        idempotency_key=f"subscription:{subscription.pk}:{period.number}:allotment",
        at=at,
    ).lot_id


def _a_term_after(period: Period, instant: datetime) -> datetime:
    return periods.months_after(
        anchor=instant,
        months=period.subscription.plan_version.term_months,
        time_zone=period.subscription.time_zone,
    )
