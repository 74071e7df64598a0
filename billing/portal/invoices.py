"""A customer's invoices in a list: what for, how much, and how it stands."""

import uuid
from dataclasses import dataclass
from datetime import datetime

from djmoney.money import Money

from billing import invoicing
from billing.models import CreditNoteIssued, Customer, Invoice


@dataclass(frozen=True, kw_only=True)
class InvoiceRow:
    """`number` is Stripe's and comes with the finalization; until then `total` is before tax."""

    id: uuid.UUID
    number: str
    title: str
    total: Money
    state: str  # as invoicing.state says it
    at: datetime
    hosted_url: str
    credits: tuple[CreditNoteIssued, ...]  # credit notes that stand


def latest(*, customer: Customer, invoices_max: int) -> list[InvoiceRow]:
    """Newest first."""
    rows = (
        Invoice.objects.filter(customer=customer)
        .select_related("period", "finalization", "payment")
        .prefetch_related("lines", "payment_failures", "given_up", "disputes__statuses")
        .prefetch_related("credit_notes__issued", "credit_notes__voided")
        .order_by("-built_at")
    )
    return [_row(invoice) for invoice in rows[:invoices_max]]


def _row(invoice: Invoice) -> InvoiceRow:
    finalization = getattr(invoice, "finalization", None)
    zero = Money(0, invoice.currency)
    before_tax = sum((line.amount for line in invoice.lines.all()), start=zero)
    return InvoiceRow(
        id=invoice.pk,
        number="" if finalization is None else finalization.number,
        title=", ".join(dict.fromkeys(line.get_kind_display() for line in invoice.lines.all())),
        total=before_tax if finalization is None else finalization.total,
        state=invoicing.state(invoice=invoice),
        at=invoice.built_at,
        hosted_url="" if finalization is None else finalization.hosted_url,
        credits=tuple(
            note.issued
            for note in invoice.credit_notes.all()
            if hasattr(note, "issued") and not hasattr(note, "voided")
        ),
    )
