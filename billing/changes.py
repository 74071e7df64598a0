"""Other terms for a subscription: from now on, or with its next period.

A subscription pins its terms, so other terms are another subscription that continues it: from the
same anchor, its first period right after the last one that is open. Until that begins, it may be
replaced by yet another change, or by one back to the terms that run (`withdraw`).

A change from now on does two things more, for the share of the period that is left:

    fees        the new ones less those that applied until now, platform fee and seats each at its
                full value for the term; what comes out below nothing is a credit
    allotment   a further lot of what the new plan grants beyond the largest one of this period so
                far, for the difference in price; nothing that was granted is taken away

So going back and forth grants nothing twice, and pays back no more than was paid. Overage, hard
cap and commitment stay as the period began with them.
"""

import hashlib
import json
import uuid
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.core import signing
from django.db import transaction
from djmoney.money import Money

from billing import (
    allotments,
    catalog,
    cohorts,
    crediting,
    customers,
    explain,
    invoicing,
    money,
    periods,
    previews,
    pricing,
    subscriptions,
    terms,
)
from billing.errors import KeyReused, NotChangeable, QuoteOutdated
from billing.invoicing import NewLine
from billing.models import (
    Credit,
    Customer,
    Invoice,
    InvoiceLine,
    Period,
    PlanChange,
    PlanVersion,
    Subscription,
)
from billing.previews import NextInvoice
from billing.terms import Terms
from ledger import grants

QUOTE_HOLDS: Final = timedelta(minutes=15)
_SALT: Final = "billing.changes"
MOMENT: Final = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The terms that are asked for."""

    plan_version_id: int
    size: str | None = None
    seats: int = 0


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a change from now on costs for the rest of the period; `fee_micros` may be below 0."""

    fee_micros: int = 0
    allotment_micros: int = 0
    microtokens: int = 0


@dataclass(frozen=True, kw_only=True)
class Quote:
    """What a change would do. `token` confirms it, as long as nothing moves."""

    now: bool
    period: Period
    before: Subscription
    after: Subscription  # not written
    cost: Cost
    charged: Money  # at once, before tax and before credits
    credited: Money
    next_invoice: NextInvoice  # with the new terms
    token: str


def quote(*, subscription_id: uuid.UUID, wanted: Wanted, now: bool, at: datetime) -> Quote:
    """What a change would cost and bring, now or with the next period. Writes nothing.

    Raises NotChangeable, NotForSale and InvalidInput.
    """
    place = Place.of(subscription_id=subscription_id, at=at)
    after = place.successor(wanted, at=at, key=uuid.uuid4())
    if now:
        place.require_same_term(after)
    cost = place.cost(after, at=at) if now else Cost()
    code = place.customer.currency
    nothing = Money(0, code)
    charges = [max(cost.fee_micros, 0), cost.allotment_micros]
    digest = place.digest(cost)
    asked = {"subscription": str(subscription_id), "wanted": asdict(wanted), "now": now}
    return Quote(
        now=now,
        period=place.period,
        before=place.applying,
        after=after,
        cost=cost,
        charged=sum((money.rounded(micros, code) for micros in charges), start=nothing),
        credited=money.rounded(max(-cost.fee_micros, 0), code),
        next_invoice=previews.of_period(
            period=place.period, following=subscriptions.to_open(subscription=after), at=at
        ),
        token=signing.dumps({**asked, "at": at.isoformat(), "digest": digest}, salt=_SALT),
    )


def confirm(
    *, subscription_id: uuid.UUID, token: str, idempotency_key: uuid.UUID, at: datetime
) -> Subscription:
    """Change as it was quoted, at the price of the moment of the quote; what continues.

    Raises QuoteOutdated if anything has moved since, if the quote is too old, or another
    subscription's, and whatever
    `change_now` and `change_at_period_end` raise.
    """
    try:
        quoted = signing.loads(token, salt=_SALT)
    except signing.BadSignature:
        raise QuoteOutdated from None
    if quoted["subscription"] != str(subscription_id):
        raise QuoteOutdated
    quoted_at = datetime.fromisoformat(quoted["at"])
    asked: dict[str, Any] = {
        "subscription_id": subscription_id,
        "wanted": Wanted(**quoted["wanted"]),
        "idempotency_key": idempotency_key,
    }
    with transaction.atomic():
        if (known := _known(**asked)) is not None:
            return known
        if not quoted_at <= at <= quoted_at + QUOTE_HOLDS:
            raise QuoteOutdated
        place = Place.of(subscription_id=subscription_id, at=at)
        after = place.successor(asked["wanted"], at=at, key=idempotency_key)
        cost = place.cost(after, at=quoted_at) if quoted["now"] else Cost()
        if place.digest(cost) != quoted["digest"]:
            raise QuoteOutdated
        if quoted["now"]:
            return change_now(**asked, priced_at=quoted_at, at=at).subscription
        return change_at_period_end(**asked, at=at)


def change_at_period_end(
    *, subscription_id: uuid.UUID, wanted: Wanted, idempotency_key: uuid.UUID, at: datetime
) -> Subscription:
    """Let the next period begin on other terms; the subscription that will continue.

    Raises NotChangeable, NotForSale, InvalidInput and KeyReused.
    """
    with transaction.atomic():
        if (known := _known(subscription_id, wanted, idempotency_key)) is not None:
            return known
        place = Place.of(subscription_id=subscription_id, at=at)
        return place.replace(place.successor(wanted, at=at, key=idempotency_key), at=at)


def withdraw(
    *, subscription_id: uuid.UUID, idempotency_key: uuid.UUID, at: datetime
) -> Subscription:
    """Take back a change that has not begun: the next period has the terms that apply now.

    Raises NotChangeable and KeyReused.
    """
    with transaction.atomic():
        if (known := _known(subscription_id, None, idempotency_key)) is not None:
            return known
        place = Place.of(subscription_id=subscription_id, at=at)
        if not place.is_pending:
            raise NotChangeable(reason="no change waits for the period's end")
        return place.replace(place.continuing(place.applying, at=at, key=idempotency_key), at=at)


def change_now(
    *,
    subscription_id: uuid.UUID,
    wanted: Wanted,
    priced_at: datetime | None = None,
    idempotency_key: uuid.UUID,
    at: datetime,
) -> PlanChange:
    """Change from now on: grants and invoices, or credits, the difference for what is left.

    What is left is counted from `priced_at`. Raises NotChangeable (the term is another, so that
    the change can only come with the next period), NotForSale, InvalidInput and KeyReused.
    """
    with transaction.atomic():
        if (known := _known(subscription_id, wanted, idempotency_key)) is not None:
            return known.change
        place = Place.of(subscription_id=subscription_id, at=at)
        successor = place.successor(wanted, at=at, key=idempotency_key)
        place.require_same_term(successor)
        cost = place.cost(successor, at=at if priced_at is None else priced_at)
        place.replace(successor, at=at)
        lines = _lines(place.period, successor, cost, at=at)
        _credit(place, successor, cost, at=at)
        return PlanChange.objects.create(
            subscription=successor,
            period=place.period,
            changed_at=at,
            fee_micros=cost.fee_micros,
            allotment_micros=cost.allotment_micros,
            allotment_microtokens=cost.microtokens,
            allotment_lot_id=_grant(place.period, successor, cost, at=at),
            invoice=invoicing.build(
                period=place.period, occasion=Invoice.Occasion.CHANGE, lines=lines, at=at
            ),
        )


def pending(*, subscription: Subscription, at: datetime) -> Subscription | None:
    """What continues a subscription at its period's end, if it has other terms than apply now."""
    try:
        place = Place.of(subscription_id=subscription.pk, at=at)
    except NotChangeable:
        return None
    return place.last if place.is_pending else None


def applying(*, period: Period) -> Subscription:
    """Whose terms apply in a period: the latest that it was changed to."""
    changed = period.changes.select_related(
        "subscription__customer", "subscription__plan_version__plan", "subscription__size"
    ).order_by("changed_at", "id")
    last = changed.last()
    return period.subscription if last is None else last.subscription


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a subscription stands when it is to be changed."""

    customer: Customer
    period: Period  # the last that is open; it runs
    last: Subscription  # whose next period would be opened
    levels: tuple[Subscription, ...]  # whose terms the period has had, in order

    @staticmethod
    def of(*, subscription_id: uuid.UUID, at: datetime, may_be_cancelled: bool = False) -> "Place":
        """Raises NotChangeable, with the reason."""
        last = subscriptions.latest(subscription_id=subscription_id)
        if last.cancelled_at is not None and not may_be_cancelled:
            raise NotChangeable(reason="it is cancelled")
        begun = last if last.continues is None or last.periods.exists() else last.continues
        period = (
            Period.objects.filter(subscription=begun)
            .select_related("subscription__customer", "subscription__plan_version__plan")
            .select_related("subscription__size")
            .order_by("-number")
            .first()
        )
        if period is None or period.starts_at > at:
            raise NotChangeable(reason="its period has not begun yet: wait until it has")
        if period.ends_at <= at:
            raise NotChangeable(reason="its next period is about to be opened: wait a moment")
        changed = period.changes.select_related(
            "subscription__customer", "subscription__plan_version__plan", "subscription__size"
        ).order_by("changed_at", "id")
        return Place(
            customer=last.customer,
            period=period,
            last=last,
            levels=(period.subscription, *(change.subscription for change in changed)),
        )

    @property
    def applying(self) -> Subscription:
        """Whose terms apply now."""
        return self.levels[-1]

    @property
    def is_pending(self) -> bool:
        """Whether the next period is to have other terms than those that apply now."""
        return _terms_of(self.last) != _terms_of(self.applying)

    def successor(self, wanted: Wanted, *, at: datetime, key: uuid.UUID) -> Subscription:
        """The subscription that would have these terms; not written."""
        version = PlanVersion.objects.select_related("plan").get(pk=wanted.plan_version_id)
        catalog.require_for_sale(
            version=version,
            vendor_id=self.customer.vendor_id,
            currency=self.customer.currency,
            at=at,
        )
        if version.plan_id != self.applying.plan_version.plan_id:  # whoever is on it keeps it
            cohorts.require_offered(customer=self.customer, version=version, at=at)
        subscriptions.require_same_rate_card(self.customer, version)
        size = subscriptions.choose(self.customer, version, size=wanted.size, seats=wanted.seats)
        found = self.continuing(self.applying, at=at, key=key)
        found.plan_version, found.size, found.seats = version, size, wanted.seats
        if _terms_of(found) in (_terms_of(self.applying), _terms_of(self.last)):
            raise NotChangeable(reason="it has these terms already")
        return found

    def continuing(self, like: Subscription, *, at: datetime, key: uuid.UUID) -> Subscription:
        """One that continues with the terms of another; not written."""
        begun = self.period.subscription
        months = self.period.number * begun.plan_version.term_months
        return Subscription(
            id=key,
            customer=self.customer,
            plan_version=like.plan_version,
            size=like.size,
            seats=like.seats,
            time_zone=begun.time_zone,
            starts_at=begun.starts_at,
            continues=begun,
            months_before=begun.months_before + months,
            begins_at=self.period.ends_at,
            subscribed_at=at,
        )

    def require_same_term(self, successor: Subscription) -> None:
        terms_ = (one.plan_version.term_months for one in (self.applying, successor))
        if len(set(terms_)) > 1:
            reason = "its term is another: change at the period's end"
            raise NotChangeable(reason=reason)

    def replace(self, successor: Subscription, *, at: datetime) -> Subscription:
        """Let it continue, in place of whatever else would."""
        self.last.cancelled_at = at
        self.last.save(update_fields=["cancelled_at"])
        successor.save(force_insert=True)
        return successor

    def cost(self, successor: Subscription, *, at: datetime) -> Cost:
        """What the rest of the period costs more with other terms, and grants beside."""
        largest = max(map(_billed_by, self.levels), key=lambda one: one.allotment_microtokens)
        new = _billed_by(successor)
        microtokens = self._share(new.allotment_microtokens - largest.allotment_microtokens, at)
        dearer = money.to_micros(new.allotment_price) - money.to_micros(largest.allotment_price)
        return Cost(
            fee_micros=self._share(fees_micros(successor), at)
            - self._share(fees_micros(self.applying), at),
            microtokens=max(microtokens, 0),
            allotment_micros=max(self._share(dearer, at), 0) if microtokens > 0 else 0,
        )

    def digest(self, cost: Cost) -> str:
        """What a quote depends on."""
        facts = [self.period.pk, str(self.last.pk), str(self.period.ends_at), asdict(cost)]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def _share(self, amount: int, at: datetime) -> int:
        span = self.period
        return periods.share_left(amount, starts_at=span.starts_at, ends_at=span.ends_at, at=at)


def _known(
    subscription_id: uuid.UUID, wanted: Wanted | None, idempotency_key: uuid.UUID
) -> Subscription | None:
    """What the same request made before: of this customer, with these terms (None: any)."""
    asked = subscriptions.latest(subscription_id=subscription_id)
    # Two of the same request at once: the second waits, and finds what the first has made.
    customers.lock(customer_id=asked.customer_id)
    Subscription.objects.select_for_update(no_key=True).get(pk=asked.pk)
    known = Subscription.objects.select_related("size").filter(pk=idempotency_key).first()
    if known is None:
        return None
    if known.customer_id != asked.customer_id or wanted not in (None, _terms_of(known)):
        raise KeyReused(idempotency_key=idempotency_key)
    return known


def _terms_of(subscription: Subscription) -> Wanted:
    size = subscription.size
    return Wanted(
        plan_version_id=subscription.plan_version_id,
        size=None if size is None else size.code,
        seats=subscription.seats,
    )


def _billed_by(subscription: Subscription) -> Terms:
    return terms.of(subscription=subscription)


def fees_micros(subscription: Subscription) -> int:
    """Platform fee and seats for a whole term."""
    billed_by = _billed_by(subscription)
    seats = money.to_micros(billed_by.seat_price) * subscription.seats
    return money.to_micros(billed_by.platform_fee) + seats


def _lines(period: Period, successor: Subscription, cost: Cost, *, at: datetime) -> list[NewLine]:
    plan = successor.plan_version.plan
    rest = periods.span_text(
        starts_at=at, ends_at=period.ends_at, time_zone=period.subscription.time_zone
    )
    lines = []
    if cost.fee_micros > 0:
        lines.append(
            NewLine(
                kind=InvoiceLine.Kind.FEE_CHANGE,
                period=period,
                description=f"Change to {plan}, difference in fees, {rest}",
                micros=cost.fee_micros,
            )
        )
    if cost.allotment_micros:
        granted = explain.tokens(cost.microtokens)
        lines.append(
            NewLine(
                kind=InvoiceLine.Kind.ALLOTMENT_CHANGE,
                period=period,
                description=f"Change to {plan}, further allotment of {granted}, {rest}",
                micros=cost.allotment_micros,
                microtokens=cost.microtokens,
            )
        )
    return lines


def _credit(place: Place, successor: Subscription, cost: Cost, *, at: datetime) -> None:
    amount = money.rounded(max(-cost.fee_micros, 0), place.customer.currency)
    if not amount.amount:
        return
    rest = periods.span_text(
        starts_at=at, ends_at=place.period.ends_at, time_zone=successor.time_zone
    )
    crediting.record(
        customer=place.customer,
        amount=amount,
        reason=Credit.Reason.CHANGE,
        description=f"Change to {successor.plan_version.plan}, difference in fees, {rest}",
        period=place.period,
        idempotency_key=f"change:{successor.pk}",
        at=at,
    )


def _grant(period: Period, successor: Subscription, cost: Cost, *, at: datetime) -> int | None:
    """The further lot: it lives and rolls over as the period's own does."""
    if not cost.microtokens:
        return None
    billed_by = _billed_by(successor)
    granted = grants.grant(
        account_id=successor.customer.account_id,
        microtokens=cost.microtokens,
        source="allotment",
        price_micros=cost.allotment_micros,
        currency=billed_by.currency,
        priority=allotments.ALLOTMENT_PRIORITY,
        effective_at=at,
        expires_at=period.ends_at,
        grace=_billed_by(period.subscription).grace,
        rollover_microtokens_max=pricing.rollover_microtokens_max(
            allotment_microtokens=cost.microtokens, basis_points=billed_by.rollover_basis_points
        ),
        rollover_expires_at=subscriptions.to_open(subscription=successor).ends_at,
        idempotency_key=f"subscription:{successor.pk}:change:allotment",
        at=at,
    )
    return granted.lot_id
