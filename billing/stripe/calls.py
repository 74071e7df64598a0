"""Requests to Stripe as they are written down: which, under which key, with which parameters.

A call is written in the transaction of the decision that wants it (the outbox sends it later).
Amounts, times and texts are fixed here. Only Stripe's own ids, which are not known yet, are filled
in when it is sent (billing.stripe.chains); they are facts that never change, so a call that is
sent again is the same request to the byte.
"""

import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db.models import Max

from billing import money
from billing.models import (
    CardSetup,
    CreditNote,
    Customer,
    Invoice,
    PaymentMethod,
    Refund,
    StripeCall,
    TopUp,
    TopUpCharge,
    TopUpPayment,
)

CUSTOMER_CREATE: Final = "customer.create"
CARD_ATTACH: Final = "card.attach"
CARD_DEFAULT: Final = "card.default"
CARD_DETACH: Final = "card.detach"
CHECKOUT_CREATE: Final = "checkout.create"
TOP_UP_TAX: Final = "top_up.tax"
TOP_UP_CHARGE: Final = "top_up.charge"
SETUP_CREATE: Final = "setup.create"
INVOICE_CREATE: Final = "invoice.create"
INVOICE_LINES: Final = "invoice.lines"  # followed by the number of the chunk
INVOICE_VERIFY: Final = "invoice.verify"
INVOICE_FINALIZE: Final = "invoice.finalize"
INVOICE_SEND: Final = "invoice.send"
INVOICE_PAY: Final = "invoice.pay"
REFUND_CREATE: Final = "refund.create"
CREDIT_NOTE_PREVIEW: Final = "credit_note.preview"
CREDIT_NOTE_CREATE: Final = "credit_note.create"

LINES_PER_CALL_MAX: Final = 100
CHECKOUT_OPEN_FOR: Final = timedelta(hours=1)
CHECKOUT_SWEPT_AFTER: Final = timedelta(minutes=1)

Params = dict[str, Any]


def environment() -> str:
    """Goes into keys and metadata, so that two installations on one Stripe account stay apart."""
    return "development" if settings.DEVELOPMENT else "production"


def write(
    *,
    operation: str,
    aggregate_id: uuid.UUID,
    params: Params,
    after: StripeCall | None,
    attempt: int = 1,
    sweep_after: timedelta | None = None,
    at: datetime,
) -> StripeCall:
    """Write a call down, once: its key follows from what it is about.

    `sweep_after`: whoever wrote it means to send it at once; until then the outbox leaves it alone.
    """
    call, _ = StripeCall.objects.get_or_create(
        idempotency_key=f"{environment()}:{operation}:{aggregate_id}:{attempt}",
        defaults={
            "operation": operation,
            "aggregate_id": aggregate_id,
            "attempt": attempt,
            "params": params,
            "after": after,
            "created_at": at,
            "next_try_at": None if sweep_after is None else at + sweep_after,
        },
    )
    return call


def write_again(*, call: StripeCall, params: Params, at: datetime) -> StripeCall:
    """Another attempt under a new key: for a person's or the reconciler's decision only."""
    return write(
        operation=call.operation,
        aggregate_id=call.aggregate_id,
        params=params,
        after=call.after,
        attempt=next_attempt(operation=call.operation, aggregate_id=call.aggregate_id),
        at=at,
    )


def next_attempt(*, operation: str, aggregate_id: uuid.UUID) -> int:
    """The number after the latest attempt's."""
    made = StripeCall.objects.filter(operation=operation, aggregate_id=aggregate_id)
    return (made.aggregate(latest=Max("attempt"))["latest"] or 0) + 1


def params_now(*, call: StripeCall, at: datetime) -> Params:
    """What the call would say if it were written now: the rows may have been corrected since."""
    if call.operation == CUSTOMER_CREATE:
        return _of_customer(Customer.objects.get(reference=call.aggregate_id))
    if call.operation == CHECKOUT_CREATE:
        return _of_top_up(TopUp.objects.get(pk=call.aggregate_id), at=at)
    if call.operation == SETUP_CREATE:
        return _of_setup(CardSetup.objects.get(pk=call.aggregate_id), at=at)
    if call.operation == INVOICE_CREATE:
        return _of_invoice(Invoice.objects.get(pk=call.aggregate_id))
    params: Params = call.params
    return params


def family(call: StripeCall) -> str:
    """The kind of call, without the number of a chunk."""
    return call.operation.rstrip("0123456789").rstrip(".")


def write_customer_create(*, customer: Customer, at: datetime) -> StripeCall:
    return write(
        operation=CUSTOMER_CREATE,
        aggregate_id=customer.reference,
        params=_of_customer(customer),
        after=None,
        at=at,
    )


def write_checkout_create(*, top_up: TopUp, at: datetime) -> StripeCall:
    return write(
        operation=CHECKOUT_CREATE,
        aggregate_id=top_up.pk,
        params=_of_top_up(top_up, at=at),
        after=_customer_create(top_up.customer),
        sweep_after=CHECKOUT_SWEPT_AFTER,
        at=at,
    )


def write_setup_create(*, setup: CardSetup, at: datetime) -> StripeCall:
    return write(
        operation=SETUP_CREATE,
        aggregate_id=setup.pk,
        params=_of_setup(setup, at=at),
        after=_customer_create(setup.customer),
        sweep_after=CHECKOUT_SWEPT_AFTER,
        at=at,
    )


def write_card_default(*, method: PaymentMethod, at: datetime) -> StripeCall:
    """What a customer chose last is what Stripe charges: each choice is an attempt of its own."""
    reference = method.customer.reference
    return write(
        operation=CARD_DEFAULT,
        aggregate_id=reference,
        params={"invoice_settings": {"default_payment_method": method.stripe_payment_method_id}},
        after=None,
        attempt=next_attempt(operation=CARD_DEFAULT, aggregate_id=reference),
        at=at,
    )


def default_under_way(*, customer: Customer) -> bool:
    """Whether Stripe is still to be told what the customer chose to be charged with."""
    return StripeCall.objects.filter(
        aggregate_id=customer.reference,
        operation__in=[CARD_ATTACH, CARD_DEFAULT],
        done_at__isnull=True,
        refused_at__isnull=True,
        parked_at__isnull=True,
    ).exists()


def write_card_detach(*, method: PaymentMethod, at: datetime) -> StripeCall:
    return write(operation=CARD_DETACH, aggregate_id=method.pk, params={}, after=None, at=at)


def write_top_up_tax(*, charge: TopUpCharge, at: datetime) -> StripeCall:
    """What the tax comes to: nothing that is bought but on an invoice is taxed by itself.

    https://docs.stripe.com/tax/custom
    """
    top_up = charge.top_up
    params = {
        "currency": top_up.currency.lower(),
        "line_items": [
            {
                "amount": money.to_minor_units(top_up.price),
                "reference": str(top_up.pk),
                "tax_behavior": "exclusive",
            }
        ],
    }
    return write(operation=TOP_UP_TAX, aggregate_id=top_up.pk, params=params, after=None, at=at)


def write_top_up_charge(
    *,
    charge: TopUpCharge,
    calculation_id: str = "",
    after: StripeCall | None = None,
    at: datetime,
) -> StripeCall:
    """Nobody is there to confirm: a bank that asks for it has declined.

    `calculation_id`: the tax that is in it, for Stripe's own books.
    https://docs.stripe.com/payments/save-during-payment#charge-saved-payment-method
    """
    top_up = charge.top_up
    params: Params = {
        "amount": charge.minor_units,
        "currency": top_up.currency.lower(),
        "payment_method": charge.method.stripe_payment_method_id,
        "confirm": True,
        "off_session": True,
        "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
        "description": top_up.pack.name,
        "metadata": _of_metadata(top_up),
        "expand": ["latest_charge"],
    }
    if calculation_id:
        params["hooks"] = {"inputs": {"tax": {"calculation": calculation_id}}}
    return write(operation=TOP_UP_CHARGE, aggregate_id=top_up.pk, params=params, after=after, at=at)


def write_invoice_create(*, invoice: Invoice, at: datetime) -> StripeCall:
    """The first call of an invoice's chain; each next one is written when the last is done."""
    return write(
        operation=INVOICE_CREATE,
        aggregate_id=invoice.pk,
        params=_of_invoice(invoice),
        after=_customer_create(invoice.customer),
        at=at,
    )


def write_invoice_lines(
    *, invoice: Invoice, chunk: int, after: StripeCall, at: datetime
) -> StripeCall | None:
    """The invoice's lines number `chunk` * 100 and following; None if there are none."""
    first = chunk * LINES_PER_CALL_MAX
    lines = list(
        invoice.lines.select_related("period").order_by("position")[
            first : first + LINES_PER_CALL_MAX
        ]
    )
    if not lines:
        return None
    params = {
        "lines": [
            {
                "description": line.description,
                "quantity": 1,
                "discountable": False,
                "period": {
                    "start": int(line.period.starts_at.timestamp()),
                    "end": int(line.period.ends_at.timestamp()),
                },
                "price_data": {
                    "currency": line.currency.lower(),
                    "unit_amount": money.to_minor_units(line.amount),
                    "tax_behavior": "exclusive",
                    "product_data": {"name": line.get_kind_display().capitalize()},
                },
                "metadata": {"line_id": str(line.pk)},
            }
            for line in lines
        ]
    }
    return write(
        operation=f"{INVOICE_LINES}.{chunk}",
        aggregate_id=invoice.pk,
        params=params,
        after=after,
        at=at,
    )


def write_refund_create(*, refund: Refund, payment: TopUpPayment, at: datetime) -> StripeCall:
    """https://docs.stripe.com/api/refunds/create"""
    params: Params = {
        "payment_intent": payment.stripe_payment_intent_id,
        "amount": money.to_minor_units(refund.amount),
        "reason": "requested_by_customer",
        "metadata": {"refund_id": str(refund.pk), "env": environment()},
    }
    return write(operation=REFUND_CREATE, aggregate_id=refund.pk, params=params, after=None, at=at)


def write_credit_note_preview(*, credit_note: CreditNote, at: datetime) -> StripeCall:
    """The first call of a note's chain. https://docs.stripe.com/api/credit_notes/create"""
    params: Params = {
        "metadata": {"credit_note_id": str(credit_note.pk), "env": environment()},
        **({"reason": credit_note.reason} if credit_note.reason else {}),
        **({"memo": credit_note.memo} if credit_note.memo else {}),
    }
    return write(
        operation=CREDIT_NOTE_PREVIEW,
        aggregate_id=credit_note.pk,
        params=params,
        after=None,
        at=at,
    )


def own_uuid(metadata: Mapping[str, str], name: str) -> uuid.UUID | None:
    """The id of ours that metadata at Stripe name, if this installation wrote them."""
    if metadata.get("env") != environment():
        return None
    try:
        return uuid.UUID(metadata.get(name, ""))
    except ValueError:
        return None


def write_invoice_pay(*, invoice: Invoice, at: datetime) -> StripeCall:
    """Charge an issued invoice to its customer's card: each attempt has a key of its own."""
    return write(
        operation=INVOICE_PAY,
        aggregate_id=invoice.pk,
        params={"off_session": True},
        after=None,
        attempt=next_attempt(operation=INVOICE_PAY, aggregate_id=invoice.pk),
        at=at,
    )


def done(*, operation: str, aggregate_id: uuid.UUID) -> StripeCall | None:
    """The call of this kind that Stripe has carried out."""
    return StripeCall.objects.filter(
        operation=operation, aggregate_id=aggregate_id, done_at__isnull=False
    ).first()


def _customer_create(customer: Customer) -> StripeCall | None:
    return StripeCall.objects.filter(
        operation=CUSTOMER_CREATE, aggregate_id=customer.reference, attempt=1
    ).first()


def _of_customer(customer: Customer) -> Params:
    return {
        "name": customer.name,
        "email": customer.email,
        "metadata": {"customer_reference": str(customer.reference), "env": environment()},
    }


def _of_top_up(top_up: TopUp, *, at: datetime) -> Params:
    """https://docs.stripe.com/api/checkout/sessions/create"""
    page = f"{settings.WEB_URL}/portal/top-ups/{top_up.pk}/"
    metadata = _of_metadata(top_up)
    params: Params = {
        "mode": "payment",
        "client_reference_id": str(top_up.pk),
        "line_items": [
            {
                "quantity": top_up.quantity,
                "price_data": {
                    "currency": top_up.currency.lower(),
                    "unit_amount": money.to_minor_units(top_up.price / top_up.quantity),
                    "tax_behavior": "exclusive",
                    "product_data": {"name": top_up.pack.name},
                },
            }
        ],
        "success_url": page + "?session_id={CHECKOUT_SESSION_ID}",
        "cancel_url": page + "?cancelled=1",
        "expires_at": int((at + CHECKOUT_OPEN_FOR).timestamp()),
        "payment_intent_data": {
            "description": top_up.pack.name,
            "metadata": metadata,
            **({"setup_future_usage": "off_session"} if top_up.keeps_card else {}),
        },
        "metadata": metadata,
        "adaptive_pricing": {"enabled": False},
        "automatic_tax": {"enabled": settings.STRIPE_TAX},
    }
    if settings.STRIPE_TAX:
        params |= {
            "billing_address_collection": "required",
            "customer_update": {"address": "auto", "name": "auto"},
            "tax_id_collection": {"enabled": True},
        }
    return params


def _of_metadata(top_up: TopUp) -> dict[str, str]:
    return {
        "top_up_id": str(top_up.pk),
        "customer_reference": str(top_up.customer.reference),
        "env": environment(),
    }


def _of_setup(setup: CardSetup, *, at: datetime) -> Params:
    """Nothing is sold in this mode, so Stripe takes no word of tax."""
    page = f"{settings.WEB_URL}/portal/card-setups/{setup.pk}/"
    metadata = {
        "card_setup_id": str(setup.pk),
        "customer_reference": str(setup.customer.reference),
        "env": environment(),
    }
    return {
        "mode": "setup",
        "client_reference_id": str(setup.pk),
        "currency": setup.customer.currency.lower(),
        "success_url": page + "?session_id={CHECKOUT_SESSION_ID}",
        "cancel_url": page + "?cancelled=1",
        "expires_at": int((at + CHECKOUT_OPEN_FOR).timestamp()),
        "setup_intent_data": {"metadata": metadata},
        "metadata": metadata,
    }


def _of_invoice(invoice: Invoice) -> Params:
    days = invoice.customer.payment_days
    params: Params = {
        "currency": invoice.currency.lower(),
        "auto_advance": False,
        "pending_invoice_items_behavior": "exclude",
        "automatic_tax": {"enabled": settings.STRIPE_TAX},
        "metadata": {"invoice_id": str(invoice.pk), "env": environment()},
    }
    if days is None:
        params |= {"collection_method": "charge_automatically"}
    else:
        params |= {"collection_method": "send_invoice", "days_until_due": days}
    return params
