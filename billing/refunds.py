"""Refunds of top-ups: tokens that are left go back for the money that they cost.

    ask ─▶ (tokens frozen, call to Stripe written) ─▶ succeeded: revoked
                                                   └▶ failed, even days later: thawed

One transaction freezes the tokens, so that nobody spends them while the money is on its way, and
writes the call. A vendor may force a refund of tokens that are used: they are owed then.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import F, Q, QuerySet
from djmoney.money import Money

from billing import money, notices, reversals
from billing.errors import KeyReused, NotRefundable
from billing.models import (
    Refund,
    RefundAtStripe,
    RefundFailure,
    RefundSuccess,
    TopUp,
    TopUpPayment,
)
from billing.reversals import Parts
from billing.stripe import calls
from ledger import queries


@dataclass(frozen=True, kw_only=True)
class Refundable:
    """What of a top-up can go back: of what is left, and at most if it is forced."""

    microtokens: int
    amount: Money
    microtokens_max: int
    amount_max: Money


@dataclass(frozen=True, kw_only=True)
class _Scene:
    """A top-up, its payment, and what of it went back already."""

    top_up: TopUp
    payment: TopUpPayment
    before: Parts
    left_microtokens: int

    @property
    def gross(self) -> int:
        return int(money.to_minor_units(self.payment.amount))

    @property
    def amount_max(self) -> int:
        return max(0, self.gross - self.before.reversed)

    @property
    def microtokens_max(self) -> int:
        return self.top_up.microtokens - self.before.microtokens

    @property
    def refundable_microtokens(self) -> int:
        return min(self.left_microtokens, self.microtokens_max)

    def amount_for(self, microtokens: int) -> int:
        """So that pieces of a refund come to what the whole comes to."""
        after = reversals.amount_for(
            microtokens=self.before.microtokens + microtokens,
            gross=self.gross,
            granted=self.top_up.microtokens,
        )
        wanted = money.payable(after, self.payment.currency) - self.before.reversed
        return max(0, min(wanted, self.amount_max))

    def microtokens_for(self, amount: int) -> int:
        after = reversals.tokens_for(
            amount=self.before.reversed + amount, gross=self.gross, granted=self.top_up.microtokens
        )
        return max(0, after - self.before.microtokens)


def refundable(*, top_up: TopUp, at: datetime) -> Refundable:
    """What can be refunded now. Raises NotRefundable."""
    scene = _scene(top_up, at=at)
    currency = scene.payment.currency
    return Refundable(
        microtokens=scene.refundable_microtokens,
        amount=money.from_minor_units(scene.amount_for(scene.refundable_microtokens), currency),
        microtokens_max=scene.microtokens_max,
        amount_max=money.from_minor_units(scene.amount_max, currency),
    )


def ask(
    *,
    top_up_id: uuid.UUID,
    microtokens: int | None = None,
    amount: Money | None = None,
    force: bool = False,
    reason: str,
    asked_by: Any,
    idempotency_key: uuid.UUID,
    at: datetime,
) -> Refund:
    """Refund so many tokens, or so much money (with tax), or (neither) all that is left.

    Money is what the tokens cost, rounded down to what can be paid; tokens are what the money
    bought, rounded up. More than is left, or than has not expired, only by `force`: it is owed.

    The key becomes the refund's id: asking again gives the same refund. Raises NotRefundable,
    AmountNotPayable and KeyReused.
    """
    assert microtokens is None or amount is None
    with transaction.atomic():
        top_up = TopUp.objects.select_for_update(no_key=True).get(pk=top_up_id)
        known = Refund.objects.filter(pk=idempotency_key).first()
        if known is not None:
            if known.top_up_id != top_up_id:
                raise KeyReused(idempotency_key=idempotency_key)
            return known
        scene = _scene(top_up, at=at)
        wanted, paid = _wanted(scene, microtokens=microtokens, amount=amount)
        if wanted > scene.refundable_microtokens and not force:
            raise _too_many(scene, wanted)
        refund = Refund.objects.create(
            id=idempotency_key,
            top_up=top_up,
            amount=money.from_minor_units(paid, scene.payment.currency),
            microtokens=wanted,
            reason=reason,
            asked_by=asked_by,
            asked_at=at,
        )
        standing = reversals.settle(top_up_id=top_up.pk, at=at)
        frozen = 0 if standing is None else standing.frozen_microtokens
        if not force and frozen < scene.before.to_freeze_microtokens + wanted:
            raise _too_many(_scene(top_up, at=at), wanted)
        calls.write_refund_create(refund=refund, payment=scene.payment, at=at)
        return refund


def find(*, top_up: TopUp, stripe_refund_id: str, amount: Money, at: datetime) -> Refund:
    """A refund that was made at Stripe: it counts as one of ours. Found again, nothing changes."""
    with transaction.atomic():
        TopUp.objects.select_for_update(no_key=True).get(pk=top_up.pk)
        known = Refund.objects.filter(at_stripe__stripe_refund_id=stripe_refund_id).first()
        if known is not None:
            return known
        refund = Refund.objects.create(
            top_up=top_up, amount=amount, reason="made at Stripe", asked_by=None, asked_at=at
        )
        record_at_stripe(refund=refund, stripe_refund_id=stripe_refund_id, at=at)
        return refund


def record_at_stripe(*, refund: Refund, stripe_refund_id: str, at: datetime) -> None:
    """Stripe has the refund. Told again, nothing changes."""
    RefundAtStripe.objects.get_or_create(
        refund=refund, defaults={"stripe_refund_id": stripe_refund_id, "known_at": at}
    )


def record_success(*, refund: Refund, at: datetime) -> None:
    """The money goes back, and the tokens with it. Told again, nothing changes."""
    with transaction.atomic():
        RefundSuccess.objects.get_or_create(refund=refund, defaults={"succeeded_at": at})
        reversals.settle(top_up_id=refund.top_up_id, at=at)


def record_failure(*, refund: Refund, kind: str, message: str, at: datetime) -> None:
    """The money stays, and the customer has the tokens again. Told again, nothing changes."""
    with transaction.atomic():
        _, is_new = RefundFailure.objects.get_or_create(
            refund=refund, defaults={"kind": kind, "message": message, "failed_at": at}
        )
        reversals.settle(top_up_id=refund.top_up_id, at=at)
        if is_new:
            _tell_of_failure(refund, at=at)


def under_way() -> QuerySet[Refund]:
    """Refunds of which Stripe has not said the last word."""
    return Refund.objects.filter(
        at_stripe__isnull=False, success__isnull=True, failure__isnull=True
    )


def failed() -> QuerySet[Refund]:
    """Refunds that failed, of top-ups for which no other was asked since: somebody should know."""
    return Refund.objects.filter(failure__isnull=False).exclude(
        Q(top_up__refunds__asked_at__gt=F("failure__failed_at"))
    )


def _tell_of_failure(refund: Refund, *, at: datetime) -> None:
    customer, amount = refund.top_up.customer, money.text(refund.amount)
    notices.tell(
        customer=customer,
        about=f"refund:{refund.pk}:failed",
        subject=f"{customer}: a refund of {amount} did not go through",
        body=(
            f"{amount} for {refund.top_up.pack} could not be paid back. What was left of its tokens"
            f" is in your account again, as long as their time lasts; we look into the refund.\n\n"
            f"{notices.page(customer, 'invoices/')}\n"
        ),
        at=at,
    )


def _scene(top_up: TopUp, *, at: datetime) -> _Scene:
    payment = TopUpPayment.objects.filter(top_up=top_up).first()
    if payment is None:
        raise NotRefundable(reason="it is not paid")
    if any(reversals.holds_money(reversals.status_of(one)) for one in top_up.disputes.all()):
        raise NotRefundable(reason="its payment is disputed: the bank has the money")
    lots = queries.lots(account_ids=[top_up.customer.account_id])
    [lot] = [lot for lot in lots if lot.id == top_up.fulfilment.lot_id]
    is_over = lot.expires_at is not None and lot.expires_at <= at
    return _Scene(
        top_up=top_up,
        payment=payment,
        before=reversals.parts(top_up=top_up, payment=payment),
        left_microtokens=0 if is_over else lot.remaining_microtokens,
    )


def _wanted(scene: _Scene, *, microtokens: int | None, amount: Money | None) -> tuple[int, int]:
    """Microtokens and minor units."""
    if amount is not None:
        if amount.currency.code != scene.payment.currency:
            raise NotRefundable(reason=f"it was paid in {scene.payment.currency}")
        paid = int(money.to_minor_units(amount))
        wanted = scene.microtokens_for(paid)
    else:
        wanted = scene.refundable_microtokens if microtokens is None else microtokens
        paid = scene.amount_for(wanted)
    if wanted > scene.microtokens_max or paid > scene.amount_max:
        left = money.text(money.from_minor_units(scene.amount_max, scene.payment.currency))
        raise NotRefundable(reason=f"{left} of it have not been refunded")
    if paid <= 0:
        raise NotRefundable(reason="that comes to no money")
    return wanted, paid


def _too_many(scene: _Scene, wanted: int) -> NotRefundable:
    return NotRefundable(
        reason="its tokens are used or have expired",
        wanted_microtokens=wanted,
        left_microtokens=scene.refundable_microtokens,
    )
