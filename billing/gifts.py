"""What a plan gives away: the tokens of a trial, and those that welcome a new customer.

Each is a free lot with an expiry of its own, given once for a customer and plan: whoever cancels
and comes back, or moves to another version of the plan, is not given it again.
"""

from datetime import datetime

from django.db import transaction

from billing import periods, terms
from billing.models import Customer, Gift, Subscription
from ledger import grants

GIFT_PRIORITY = 50  # as an allotment's: what expires sooner serves first, then free before paid


def give_trial(
    *, subscription: Subscription, starts_at: datetime, ends_at: datetime, at: datetime
) -> Gift | None:
    """The tokens of a trial that runs from `starts_at` to `ends_at`; None if there are none."""
    microtokens = terms.of(subscription=subscription).trial_microtokens
    return _give(
        subscription, Gift.Kind.TRIAL, microtokens, starts_at=starts_at, ends_at=ends_at, at=at
    )


def give_welcome(*, subscription: Subscription, starts_at: datetime, at: datetime) -> Gift | None:
    """What welcomes a customer when the first term begins; None if it is nothing, or was given."""
    billed_by = terms.of(subscription=subscription)
    ends_at = periods.months_after(
        anchor=starts_at, months=billed_by.welcome_months, time_zone=subscription.time_zone
    )
    return _give(
        subscription,
        Gift.Kind.WELCOME,
        billed_by.welcome_microtokens,
        starts_at=starts_at,
        ends_at=ends_at,
        at=at,
    )


def was_given(*, customer: Customer, plan_id: int, kind: str) -> bool:
    return Gift.objects.filter(customer=customer, plan_id=plan_id, kind=kind).exists()


def _give(
    subscription: Subscription,
    kind: str,
    microtokens: int,
    *,
    starts_at: datetime,
    ends_at: datetime,
    at: datetime,
) -> Gift | None:
    with transaction.atomic():
        customer = Customer.objects.select_for_update(no_key=True).get(pk=subscription.customer_id)
        plan_id = subscription.plan_version.plan_id
        if not microtokens or was_given(customer=customer, plan_id=plan_id, kind=kind):
            return None
        granted = grants.grant(
            account_id=customer.account_id,
            microtokens=microtokens,
            source=kind,
            price_micros=0,
            currency=customer.currency,
            priority=GIFT_PRIORITY,
            effective_at=starts_at,
            expires_at=ends_at,
            grace=subscription.plan_version.grace,
            idempotency_key=f"gift:{plan_id}:{kind}",
            at=at,
        )
        return Gift.objects.create(
            customer=customer,
            plan_id=plan_id,
            kind=kind,
            subscription=subscription,
            lot_id=granted.lot_id,
            given_at=at,
        )
