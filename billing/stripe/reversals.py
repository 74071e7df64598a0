"""What Stripe says of refunds and disputes, applied to the top-ups they are about.

A payment may be refunded or disputed before we know that it was made: then the top-up that it says
it is for is fulfilled first.
"""

import uuid
from datetime import datetime

from django.db import transaction

from billing import disputes, money, notices, refunds, top_up_charges, top_ups
from billing.models import (
    Dispute,
    Invoice,
    InvoiceFinalization,
    Refund,
    RefundFailure,
    TopUp,
    TopUpCharge,
    TopUpPayment,
)
from billing.stripe import calls, gateway, tokens
from billing.stripe.facts import DisputeFacts, RefundFacts


def refresh_refund(*, stripe_refund_id: str, at: datetime) -> bool | None:
    """Ask Stripe how a refund stands, and apply it; None: it is of nothing of ours.

    False if a later question overtook ours. Raises StripeUnavailable and StripeRefused.
    """
    told = gateway.refund(stripe_refund_id=stripe_refund_id)
    refund = _ours(told)
    if refund is None:
        top_up = _paid_by(told.payment_intent_id, at=at)
        if top_up is None:
            return _tell_if_failed(told, at=at)
        refund = refunds.find(
            top_up=top_up, stripe_refund_id=told.stripe_id, amount=told.amount, at=at
        )
    apply_refund(refund=refund, told=told, at=at)
    return True


def _tell_if_failed(told: RefundFacts, *, at: datetime) -> bool | None:
    """What a credit note pays back is no refund of ours; but somebody must know if it fails."""
    if told.status != RefundFailure.Kind.FAILED:
        return None
    invoice = _invoice_paid_by(told.payment_intent_id)
    if invoice is None:
        return None
    amount, number = money.text(told.amount), invoice.finalization.number
    notices.tell(
        customer=invoice.customer,
        about=f"refund:{told.stripe_id}:failed",
        subject=f"{invoice.customer}: a refund of {amount} did not go through",
        body=(
            f"{amount} that were credited of invoice {number} could not be paid back. The credit"
            " note stands; we look into how the money reaches you.\n\n"
            f"{notices.page(invoice.customer, 'invoices/')}\n"
        ),
        at=at,
    )
    return True


def apply_refund(*, refund: Refund, told: RefundFacts, at: datetime) -> None:
    """Facts are only added: that it failed is later than that it succeeded, whoever comes first."""
    with transaction.atomic():
        refunds.record_at_stripe(refund=refund, stripe_refund_id=told.stripe_id, at=at)
        if told.status == "succeeded":
            refunds.record_success(refund=refund, at=at)
        elif told.status in (RefundFailure.Kind.FAILED, RefundFailure.Kind.CANCELED):
            refunds.record_failure(
                refund=refund, kind=told.status, message=told.failure_reason, at=at
            )


def refresh_dispute(*, stripe_dispute_id: str, at: datetime) -> bool | None:
    """Ask Stripe how a dispute stands, and apply it; None: it is of nothing of ours.

    False if a later question overtook ours. Raises StripeUnavailable and StripeRefused.
    """
    known = Dispute.objects.filter(stripe_dispute_id=stripe_dispute_id).first()
    if known is not None:
        about: TopUp | Invoice | None = known.top_up or known.invoice
    else:
        intent_id = gateway.dispute(stripe_dispute_id=stripe_dispute_id).payment_intent_id
        about = _paid_by(intent_id, at=at) or _invoice_paid_by(intent_id)
    if about is None:
        return None
    token = tokens.draw(type(about), about.pk)
    told = gateway.dispute(stripe_dispute_id=stripe_dispute_id)
    with transaction.atomic():
        locked = type(about).objects.select_for_update(no_key=True).get(pk=about.pk)
        if locked.sync_token != token:
            return False
        _apply_dispute(told, locked, at=at)
        return True


def _apply_dispute(told: DisputeFacts, about: TopUp | Invoice, *, at: datetime) -> None:
    disputes.record(
        stripe_dispute_id=told.stripe_id,
        top_up=about if isinstance(about, TopUp) else None,
        invoice=about if isinstance(about, Invoice) else None,
        amount=told.amount,
        reason=told.reason,
        status=told.status,
        opened_at=told.opened_at,
        at=at,
    )


def _ours(told: RefundFacts) -> Refund | None:
    """The refund that was asked for here, or found before."""
    refund_id = calls.own_uuid(told.metadata, "refund_id")
    if refund_id is not None:
        return Refund.objects.filter(pk=refund_id).first()
    return Refund.objects.filter(at_stripe__stripe_refund_id=told.stripe_id).first()


def _paid_by(payment_intent_id: str, *, at: datetime) -> TopUp | None:
    """The top-up that a payment was for, fulfilled by now."""
    paid = TopUpPayment.objects.filter(stripe_payment_intent_id=payment_intent_id)
    payment = paid.select_related("top_up").first()
    if payment is None and payment_intent_id:
        top_up_id = _top_up_named(payment_intent_id)
        if top_up_id is not None:
            _fulfil(top_up_id, payment_intent_id, at=at)
            payment = paid.select_related("top_up").first()
    return None if payment is None else payment.top_up


def _fulfil(top_up_id: uuid.UUID, payment_intent_id: str, *, at: datetime) -> None:
    if TopUpCharge.objects.filter(top_up_id=top_up_id).exists():
        top_up_charges.look(top_up_id=top_up_id, stripe_payment_intent_id=payment_intent_id, at=at)
    else:
        top_ups.fulfil(top_up_id=top_up_id, at=at)


def _top_up_named(payment_intent_id: str) -> uuid.UUID | None:
    metadata = gateway.payment_intent_metadata(payment_intent_id=payment_intent_id)
    top_up_id = calls.own_uuid(metadata, "top_up_id")
    known = top_up_id is not None and TopUp.objects.filter(pk=top_up_id).exists()
    return top_up_id if known else None


def _invoice_paid_by(payment_intent_id: str) -> Invoice | None:
    stripe_invoice_id = gateway.invoice_paid_by(payment_intent_id=payment_intent_id)
    issued = InvoiceFinalization.objects.filter(stripe_invoice_id=stripe_invoice_id)
    found = issued.select_related("invoice").first()
    return None if found is None else found.invoice
