"""All subscriptions of a plan's version moved to another: what it does to each, then each once.

A subscription is moved as by a single change (billing.changes), with its size and seats where the
other version has them. What cannot be moved is left alone, and said with the reason: a size that
the other does not offer, a price in another currency, a pilot that the customer is not in. Whoever
moves again moves only what is still on the version.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db import transaction
from django.db.models import QuerySet
from djmoney.money import Money

from billing import changes, previews, subscriptions
from billing.changes import Wanted
from billing.errors import BillingError
from billing.models import PlanVersion, Subscription
from ledger.errors import LedgerError

PAGE: Final = 200
_NAMESPACE: Final = uuid.UUID("6f1c3a52-5a0e-4b53-9d7e-0a4f6f0f4f5b")


@dataclass(frozen=True, kw_only=True)
class Move:
    """One subscription: its next invoice as things are and once it is moved, before tax.

    `skipped` says why it is not moved; `charged` and `credited` are what a move from now on costs
    at once.
    """

    subscription: Subscription
    before: Money | None
    after: Money | None
    charged: Money | None
    credited: Money | None
    skipped: str = ""


def to_move(*, from_version: PlanVersion) -> int:
    """How many subscriptions have this version for their next period."""
    return _on(from_version).count()


def preview(
    *, from_version: PlanVersion, to_version: PlanVersion, now: bool, at: datetime
) -> Iterator[Move]:
    """What moving would do, subscription by subscription. Writes nothing."""
    for subscription in _each(from_version):
        yield _quoted(subscription, to_version, now=now, at=at)


def move(
    *, from_version: PlanVersion, to_version: PlanVersion, now: bool, at: datetime
) -> Iterator[Move]:
    """Move one after the other, each in a transaction of its own and each once."""
    for subscription in _each(from_version):
        found = _quoted(subscription, to_version, now=now, at=at)
        if not found.skipped:
            try:
                _move_one(subscription, to_version, now=now, at=at)
            except (BillingError, LedgerError) as error:  # it has moved since it was quoted
                found = _skipped(subscription, error)
        yield found


def _move_one(
    subscription: Subscription, to_version: PlanVersion, *, now: bool, at: datetime
) -> None:
    change = changes.change_now if now else changes.change_at_period_end
    with transaction.atomic():
        change(
            subscription_id=subscription.pk,
            wanted=_wanted(subscription, to_version),
            # Of this subscription to that version: however often, and by whomever, it is moved.
            idempotency_key=uuid.uuid5(_NAMESPACE, f"{subscription.pk}:{to_version.pk}"),
            at=at,
        )


def _quoted(
    subscription: Subscription, to_version: PlanVersion, *, now: bool, at: datetime
) -> Move:
    try:
        quote = changes.quote(
            subscription_id=subscription.pk,
            wanted=_wanted(subscription, to_version),
            now=now,
            at=at,
        )
    except (BillingError, LedgerError) as error:
        return _skipped(subscription, error)
    following = subscriptions.to_open(subscription=subscription)
    as_it_is = previews.of_period(period=quote.period, following=following, at=at)
    return Move(
        subscription=subscription,
        before=as_it_is.total,
        after=quote.next_invoice.total,
        charged=quote.charged,
        credited=quote.credited,
    )


def _skipped(subscription: Subscription, error: Exception) -> Move:
    return Move(
        subscription=subscription,
        before=None,
        after=None,
        charged=None,
        credited=None,
        skipped=str(error),
    )


def _wanted(subscription: Subscription, to_version: PlanVersion) -> Wanted:
    """The same size and seats, where the other version has some."""
    currency = subscription.customer.currency
    has_sizes = to_version.sizes.filter(currency=currency).exists()
    has_seats = to_version.prices.filter(currency=currency, seat_price__gt=0).exists()
    size = subscription.size
    return Wanted(
        plan_version_id=to_version.pk,
        size=size.code if has_sizes and size is not None else None,
        seats=subscription.seats if has_seats else 0,
    )


def _on(version: PlanVersion) -> QuerySet[Subscription]:
    return Subscription.objects.filter(plan_version=version, cancelled_at__isnull=True)


def _each(version: PlanVersion) -> Iterator[Subscription]:
    """Those who were on it when this began, page by page."""
    ids = list(_on(version).order_by("customer__name", "id").values_list("id", flat=True))
    for start in range(0, len(ids), PAGE):
        page = Subscription.objects.select_related(
            "customer__vendor", "plan_version__plan", "size"
        ).in_bulk(ids[start : start + PAGE])
        yield from (page[one] for one in ids[start : start + PAGE])
