"""Subscriptions and their periods.

A period is opened at its start, or a moment ahead of it, exactly once: its number is unique in the
subscription. Opening it grants the allotment and, if overage is invoiced, opens the lot that
takes it; both under keys made of subscription and number. The first period is invoiced when it is
opened; every later one by the closing of the one before (billing.closing).

What has been opened is granted, and so it is owed: a cancelled subscription runs to the end of the
last period that was open when it was cancelled, and no other is opened after that.
"""

import uuid
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction
from django.db.models import F, Max, Q
from django.db.models.functions import Coalesce

from billing import (
    allotments,
    catalog,
    cohorts,
    customers,
    faults,
    gifts,
    invoicing,
    periods,
    pricing,
    sweeps,
    terms,
)
from billing.errors import AlreadySubscribed, InvalidInput, KeyReused
from billing.models import Customer, Invoice, Period, PlanVersion, SizeOption, Subscription
from ledger import accounts, grants, limits
from ledger.errors import Fault
from ledger.limits import NewLimit

# Opened this long before it starts, so that its first run finds its tokens. Beat looks more often
# (config/schedule.py); any longer, and a cancellation in that time comes too late.
OPENED_AHEAD: Final = timedelta(minutes=1)
SUBSCRIPTIONS_PER_SWEEP_MAX: Final = 500
SEATS_MAX: Final = 100_000


def subscribe(
    *,
    customer_id: int,
    plan_version_id: int,
    size: str | None = None,
    seats: int = 0,
    starts_at: datetime,
    idempotency_key: uuid.UUID,
    at: datetime,
) -> Subscription:
    """Put a customer on a published version from `starts_at` on; opens what is due at once.

    If the plan has a trial, and the customer has never been on the plan, `starts_at` is when the
    trial starts: it costs nothing, its tokens end with it, and its end is the anchor.

    `size` is the code of one of the plan's sizes, if it comes in sizes, and `seats` how many are
    paid, if they have a price. Raises NotForSale, AlreadySubscribed, InvalidInput (wrong size or
    seats, or the account is priced by another rate card than the plan's) and KeyReused.
    """
    with transaction.atomic():
        customer = Customer.objects.select_for_update(no_key=True).get(pk=customer_id)
        version = PlanVersion.objects.select_related("plan").get(pk=plan_version_id)
        known = Subscription.objects.filter(pk=idempotency_key).first()
        if known is not None:
            asked = (customer.pk, version.pk, size, seats, starts_at)
            if _asked(known) != asked:
                raise KeyReused(idempotency_key=idempotency_key)
            return known
        catalog.require_for_sale(
            version=version, vendor_id=customer.vendor_id, currency=customer.currency, at=at
        )
        cohorts.require_offered(customer=customer, version=version, at=at)
        require_same_rate_card(customer, version)
        chosen = choose(customer, version, size=size, seats=seats)
        _require_free(customer, starts_at)
        anchor = _anchor(customer, version, starts_at)
        subscription = Subscription.objects.create(
            id=idempotency_key,
            customer=customer,
            plan_version=version,
            size=chosen,
            seats=seats,
            time_zone=customer.time_zone,
            starts_at=anchor,
            begins_at=anchor,
            trial_starts_at=None if anchor == starts_at else starts_at,
            subscribed_at=at,
        )
        if anchor > starts_at:
            gifts.give_trial(subscription=subscription, starts_at=starts_at, ends_at=anchor, at=at)
        renew(subscription_id=subscription.pk, at=at)
        return subscription


def cancel(*, subscription_id: uuid.UUID, at: datetime) -> Subscription:
    """Let a subscription end with the last period that is open; `runs_until` says when that is.

    A period that has begun counts as open, even if nobody has got round to opening it. If another
    continues it, or is to, that one ends. Cancelling it again changes nothing.
    """
    with transaction.atomic():
        subscription = _locked(latest(subscription_id=subscription_id).pk)
        if subscription.cancelled_at is None:
            while (coming := to_open(subscription=subscription)).starts_at < at:
                _open(coming, at=at)
            subscription.cancelled_at = at
            subscription.save(update_fields=["cancelled_at"])
        return subscription


def runs_until(*, subscription: Subscription) -> datetime | None:
    """The end of the last period that is open; before the first, of the trial; None: of nothing."""
    until: datetime | None = subscription.periods.aggregate(until=Max("ends_at"))["until"]
    if until is None and subscription.continues is not None:
        return runs_until(subscription=subscription.continues)
    if until is None and subscription.trial_starts_at is not None:
        return subscription.starts_at
    return until


def latest(*, subscription_id: uuid.UUID) -> Subscription:
    """The subscription itself, or the last that continues it: the one that is not cancelled, or
    the last that has begun."""
    subscription = Subscription.objects.select_related("customer", "plan_version", "size").get(
        pk=subscription_id
    )
    while subscription.cancelled_at is not None:
        following = (
            subscription.successors.filter(Q(cancelled_at__isnull=True) | Q(periods__isnull=False))
            .select_related("customer", "plan_version", "size")
            .first()
        )
        if following is None:
            break
        subscription = following
    return subscription


def renew_due(*, at: datetime) -> int:
    """Open every period that starts by `at`, or shortly after; how many were opened.

    Subscriptions that another worker is renewing are left to it. One whose period cannot be opened
    waits for the next sweep.
    """
    due = (
        Subscription.objects.annotate(
            next_starts_at=Coalesce(Max("periods__ends_at"), F("begins_at"))
        )
        .filter(cancelled_at__isnull=True, next_starts_at__lte=at + OPENED_AHEAD)
        .order_by("next_starts_at", "id")
    )

    def renew_one(found: tuple[uuid.UUID, int]) -> int:
        subscription_id, customer_id = found
        with transaction.atomic():
            if not customers.lock(customer_id=customer_id, waits=False):
                return 0
            return renew(subscription_id=subscription_id, at=at)

    return sweeps.each(
        list(due.values_list("id", "customer_id")),
        renew_one,
        what="next period of a subscription",
        items_max=SUBSCRIPTIONS_PER_SWEEP_MAX,
    )


def renew(*, subscription_id: uuid.UUID, at: datetime) -> int:
    """Open one subscription's periods that are due, however many were missed; their number."""
    opened = 0
    with transaction.atomic():
        subscription = latest(subscription_id=subscription_id)
        customers.lock(customer_id=subscription.customer_id)
        subscription = _locked(subscription.pk)
        if subscription.cancelled_at is not None:
            return 0
        while (coming := to_open(subscription=subscription)).starts_at <= at + OPENED_AHEAD:
            _open(coming, at=at)
            opened += 1
    return opened


def next_period(*, period: Period) -> Period | None:
    """The one after it, if it is open: of the same subscription, or of one that continues it."""
    following = Period.objects.filter(
        Q(subscription_id=period.subscription_id, number=period.number + 1)
        | Q(subscription__continues_id=period.subscription_id, number=1)
    )
    related = ("subscription__customer", "subscription__plan_version", "subscription__size")
    return following.select_related(*related).order_by("starts_at").first()


def coming_period(*, subscription: Subscription) -> Period | None:
    """The period that is opened next, as it would be: not written. None if none is to come."""
    subscription = latest(subscription_id=subscription.pk)
    return None if subscription.cancelled_at else to_open(subscription=subscription)


def to_open(*, subscription: Subscription) -> Period:
    """The next period of a subscription, as it would be: not written."""
    number = _next_number(subscription)
    span = allotments.span(subscription, number)
    return Period(
        subscription=subscription,
        number=number,
        starts_at=span.starts_at,
        ends_at=span.ends_at,
        term_ends_at=span.ends_at,
    )


def _locked(subscription_id: uuid.UUID) -> Subscription:
    locked = Subscription.objects.select_for_update(no_key=True, of=("self",))
    return locked.select_related("customer", "plan_version", "size").get(pk=subscription_id)


def _next_number(subscription: Subscription) -> int:
    return (subscription.periods.aggregate(number=Max("number"))["number"] or 0) + 1


def _open(period: Period, *, at: datetime) -> None:
    subscription = period.subscription
    span = periods.Span(starts_at=period.starts_at, ends_at=period.ends_at)
    period.allotment_lot_id = allotments.grant(period=period, at=at)
    period.overage_lot_id = _open_overage(subscription, period.number, span, at=at)
    period.soft_cap_limit_id = _set_soft_cap(subscription, period.number, span, at=at)
    period.opened_at = at
    period.save(force_insert=True)
    # A subscription that continues another is invoiced by the closing of the other's last period.
    is_first = period.number == 1 and subscription.continues_id is None
    if is_first:
        gifts.give_welcome(subscription=subscription, starts_at=span.starts_at, at=at)
    # What is granted on payment is not to wait for a closing.
    if is_first or terms.of(subscription=subscription).grants_on_payment:
        invoicing.build(
            period=period,
            occasion=Invoice.Occasion.OPENING,
            lines=invoicing.lines_in_advance(period=period),
            at=at,
        )


def _open_overage(
    subscription: Subscription, number: int, span: periods.Span, *, at: datetime
) -> int | None:
    billed_by = terms.of(subscription=subscription)
    if billed_by.tiers is None:
        return None
    return grants.open_overage(
        account_id=subscription.customer.account_id,
        tiers=billed_by.tiers,
        cap_microtokens=(
            billed_by.overage_cap_microtokens
            or pricing.overage_microtokens_max(tiers=billed_by.tiers)
        ),
        currency=billed_by.currency,
        effective_at=span.starts_at,
        expires_at=span.ends_at,
        idempotency_key=f"subscription:{subscription.pk}:{number}:overage",
        at=at,
    )


def _set_soft_cap(
    subscription: Subscription, number: int, span: periods.Span, *, at: datetime
) -> int | None:
    """Beyond so much overage, holds of the period wait until somebody allows them."""
    cap = terms.of(subscription=subscription).overage_soft_cap_microtokens
    if cap is None:
        return None
    return limits.set_limit(
        account_id=subscription.customer.account_id,
        limit=NewLimit(
            scope="account",
            period="term",
            unit="overage",
            cap=cap,
            hard=False,
            effective_at=span.starts_at,
            until_at=span.ends_at,
        ),
        idempotency_key=f"subscription:{subscription.pk}:{number}:soft_cap",
        at=at,
    ).id


def _asked(known: Subscription) -> tuple[object, ...]:
    size = None if known.size is None else known.size.code
    asked_at = known.trial_starts_at or known.starts_at
    return (known.customer_id, known.plan_version_id, size, known.seats, asked_at)


def _anchor(customer: Customer, version: PlanVersion, starts_at: datetime) -> datetime:
    """After the trial, if the plan has one and the customer has not been on it before."""
    known = Subscription.objects.filter(customer=customer, plan_version__plan=version.plan)
    days = 0 if known.exists() else version.trial_days
    return periods.days_after(anchor=starts_at, days=days, time_zone=customer.time_zone)


def choose(
    customer: Customer, version: PlanVersion, *, size: str | None, seats: int
) -> SizeOption | None:
    """The size that was asked for. Raises InvalidInput if it, or the seats, do not fit the plan."""
    offered = {row.code: row for row in version.sizes.filter(currency=customer.currency)}
    found = []
    if offered and size not in offered:
        found.append(faults.fault("size", "choice", f"must be one of {', '.join(sorted(offered))}"))
    if not offered and size is not None:
        found.append(faults.fault("size", "choice", "is only for a plan that comes in sizes"))
    price = terms.of_version(version=version, currency=customer.currency).seat_price
    if price.amount and not 1 <= seats <= SEATS_MAX:
        found.append(faults.fault("seats", "range", f"must be from 1 to {SEATS_MAX:,}"))
    if not price.amount and seats:
        found.append(faults.fault("seats", "price", "have no price in this plan: it must be 0"))
    faults.refuse(found)
    return None if size is None else offered[size]


def require_same_rate_card(customer: Customer, version: PlanVersion) -> None:
    if accounts.account(account_id=customer.account_id).rate_card_id == version.rate_card_id:
        return
    message = f"the account of {customer} is priced by another rate card than {version}"
    raise InvalidInput(faults=[Fault(field="plan_version", rule="rate_card", message=message)])


def _require_free(customer: Customer, starts_at: datetime) -> None:
    until = Period.objects.filter(subscription__customer=customer).aggregate(until=Max("ends_at"))[
        "until"
    ]
    running = Subscription.objects.filter(customer=customer, cancelled_at__isnull=True).exists()
    if running or (until is not None and until > starts_at):
        raise AlreadySubscribed(customer=str(customer), until=None if running else until)
