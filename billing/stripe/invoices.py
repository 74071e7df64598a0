"""What Stripe says of our invoices, applied to them."""

import uuid
from datetime import datetime

from django.db import transaction

from billing import invoicing, money
from billing.errors import PaymentDoesNotMatch
from billing.models import Invoice, InvoiceGivenUp, InvoicePayment
from billing.stripe import calls, gateway, tokens
from billing.stripe.facts import InvoiceFacts

ISSUED = frozenset({"open", "paid", "uncollectible", "void"})


def refresh(*, invoice_id: uuid.UUID, at: datetime) -> bool:
    """Ask Stripe how an invoice stands, and apply it; False if a later question overtook ours.

    Raises StripeUnavailable, StripeRefused and PaymentDoesNotMatch. An invoice that Stripe does
    not have yet, or that is paid, needs no asking.
    """
    if InvoicePayment.objects.filter(invoice_id=invoice_id).exists():
        return True
    created = calls.done(operation=calls.INVOICE_CREATE, aggregate_id=invoice_id)
    if created is None:
        return True
    token = tokens.draw(Invoice, invoice_id)
    facts = gateway.invoice(stripe_invoice_id=created.stripe_id)
    with transaction.atomic():
        invoice = Invoice.objects.select_for_update(no_key=True).get(pk=invoice_id)
        if invoice.sync_token != token:
            return False
        apply(invoice=invoice, facts=facts, at=at)
        return True


def apply(*, invoice: Invoice, facts: InvoiceFacts, at: datetime) -> None:
    """Write down what is new: that the invoice was issued, that a card was declined, that it was
    paid or given up.

    Facts are only added, so what is older than they are changes nothing.
    """
    _require_ours(invoice, facts)
    if facts.status not in ISSUED:
        return
    invoicing.record_finalization(
        invoice=invoice,
        stripe_invoice_id=facts.stripe_id,
        number=facts.number,
        hosted_url=facts.hosted_url,
        subtotal=money.from_minor_units(facts.subtotal, facts.currency),
        total=facts.total,
        finalized_at=facts.finalized_at or at,
        due_at=facts.due_at,
    )
    for decline in facts.declines:
        invoicing.record_payment_failure(
            invoice=invoice,
            reference=decline.charge_id or facts.stripe_id,
            code=decline.code,
            decline_code=decline.decline_code,
            message=decline.message,
            at=at,
        )
    for kind, given_up_at in (
        (InvoiceGivenUp.Kind.VOID, facts.voided_at),
        (InvoiceGivenUp.Kind.UNCOLLECTIBLE, facts.uncollectible_at),
    ):
        if given_up_at is not None:
            invoicing.record_given_up(invoice=invoice, kind=kind, given_up_at=given_up_at)
    if facts.status == "paid":
        invoicing.record_payment(
            invoice=invoice, amount=facts.amount_paid, paid_at=facts.paid_at or at
        )


def _require_ours(invoice: Invoice, facts: InvoiceFacts) -> None:
    for field, expected, found in (
        ("metadata.invoice_id", str(invoice.pk), facts.metadata.get("invoice_id")),
        ("currency", invoice.currency, facts.currency),
        ("livemode", gateway.is_live(), facts.livemode),
    ):
        if expected != found:
            raise PaymentDoesNotMatch(field=field, expected=expected, found=found)
