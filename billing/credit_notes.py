"""Credit notes: less of an invoice that was issued, line by line.

    ask ─▶ Stripe is asked what it comes to with tax ─▶ issued: taken off what is due, or paid back
                                                    └▶ refused

What is credited is decided here, before tax and to the cent, and never more than a line has left.
Stripe books the tax. Of an invoice that is still to be paid a note takes off what is due; of a paid
one the money goes back, by a refund or otherwise.
"""

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import QuerySet, Sum
from djmoney.money import Money

from billing import money
from billing.errors import KeyReused, NotCreditable
from billing.models import (
    CreditNote,
    CreditNoteIssued,
    CreditNoteLine,
    CreditNoteRefused,
    CreditNoteVoided,
    Invoice,
    InvoiceGivenUp,
    InvoiceLine,
)
from billing.stripe import calls
from billing.stripe.facts import CreditNoteFacts


def left(*, invoice: Invoice) -> dict[int, Money]:
    """What of each line is not credited, by the line's number."""
    credited = dict(
        _standing_lines(invoice).values_list("line_id").annotate(Sum("amount")).order_by()
    )
    return {
        line.pk: Money(line.amount.amount - credited.get(line.pk, 0), invoice.currency)
        for line in invoice.lines.all()
    }


def ask(
    *,
    invoice_id: uuid.UUID,
    amounts: Mapping[int, Money],
    reason: str = "",
    memo: str = "",
    is_out_of_band: bool = False,
    asked_by: Any,
    idempotency_key: uuid.UUID,
    at: datetime,
) -> CreditNote:
    """Credit these amounts, before tax, of lines of an invoice that was issued.

    `is_out_of_band`: what is paid back is paid otherwise than by Stripe. The key becomes the
    note's id: asking again gives the same note. Raises NotCreditable, AmountNotPayable, KeyReused.
    """
    with transaction.atomic():
        invoice = Invoice.objects.select_for_update(no_key=True).get(pk=invoice_id)
        known = CreditNote.objects.filter(pk=idempotency_key).first()
        if known is not None:
            if known.invoice_id != invoice_id:
                raise KeyReused(idempotency_key=idempotency_key)
            return known
        require_creditable(invoice=invoice)
        _require_left(invoice, amounts)
        note = CreditNote.objects.create(
            id=idempotency_key,
            invoice=invoice,
            reason=reason,
            memo=memo,
            is_out_of_band=is_out_of_band,
            asked_by=asked_by,
            asked_at=at,
        )
        CreditNoteLine.objects.bulk_create(
            CreditNoteLine(credit_note=note, line_id=line_id, amount=amount)
            for line_id, amount in sorted(amounts.items())
        )
        calls.write_credit_note_preview(credit_note=note, at=at)
        return note


def require_creditable(*, invoice: Invoice) -> None:
    """Raises NotCreditable."""
    if not hasattr(invoice, "finalization"):
        raise NotCreditable(reason="it is not issued yet")
    given_up = {row.kind for row in invoice.given_up.all()}
    if InvoiceGivenUp.Kind.VOID in given_up:
        raise NotCreditable(reason="it is void")
    if InvoiceGivenUp.Kind.UNCOLLECTIBLE in given_up and not hasattr(invoice, "payment"):
        raise NotCreditable(reason="it is written off")
    waiting = CreditNote.objects.filter(invoice=invoice, issued=None, refused=None)
    if waiting.exists():
        raise NotCreditable(reason="another credit note of it is under way; wait for that")


def record_issued(*, credit_note: CreditNote, told: CreditNoteFacts, at: datetime) -> None:
    """Stripe has issued it, and may have voided it since. Told again, nothing changes."""
    CreditNoteIssued.objects.get_or_create(
        credit_note=credit_note,
        defaults={
            "stripe_credit_note_id": told.stripe_id,
            "number": told.number,
            "pdf_url": told.pdf_url,
            "subtotal": told.subtotal,
            "total": told.total,
            "taken_off": told.taken_off,
            "paid_back": told.paid_back,
            "issued_at": told.created_at,
        },
    )
    if told.voided_at is not None:
        CreditNoteVoided.objects.get_or_create(
            credit_note=credit_note, defaults={"voided_at": told.voided_at}
        )


def record_refusal(*, credit_note: CreditNote, message: str, at: datetime) -> None:
    """Stripe refused it: nothing is credited. Told again, nothing changes."""
    CreditNoteRefused.objects.get_or_create(
        credit_note=credit_note, defaults={"message": message, "refused_at": at}
    )


def find(*, invoice: Invoice, told: CreditNoteFacts, at: datetime) -> CreditNote:
    """A note that was made at Stripe: it counts as one of ours. Found again, nothing changes."""
    with transaction.atomic():
        Invoice.objects.select_for_update(no_key=True).get(pk=invoice.pk)
        known = CreditNote.objects.filter(issued__stripe_credit_note_id=told.stripe_id).first()
        if known is None:
            known = CreditNote.objects.create(
                invoice=invoice, memo="made at Stripe", asked_by=None, asked_at=at
            )
            CreditNoteLine.objects.bulk_create(
                CreditNoteLine(credit_note=known, line_id=line_id, amount=amount)
                for line_id, amount in sorted(told.amounts.items())
            )
        record_issued(credit_note=known, told=told, at=at)
        return known


def total_left(*, invoice: Invoice) -> Money:
    """What of the invoice, with tax, no credit note has taken."""
    issued = CreditNoteIssued.objects.filter(
        credit_note__invoice=invoice, credit_note__voided__isnull=True
    )
    taken = issued.aggregate(total=Sum("total"))["total"] or 0
    return Money(invoice.finalization.total.amount - taken, invoice.currency)


def _standing_lines(invoice: Invoice) -> QuerySet[CreditNoteLine]:
    """Of notes that are issued or under way."""
    return CreditNoteLine.objects.filter(
        credit_note__invoice=invoice,
        credit_note__refused__isnull=True,
        credit_note__voided__isnull=True,
    )


def _require_left(invoice: Invoice, amounts: Mapping[int, Money]) -> None:
    if not amounts:
        raise NotCreditable(reason="say how much of which line")
    remaining = left(invoice=invoice)
    names = dict(InvoiceLine.objects.filter(invoice=invoice).values_list("id", "description"))
    for line_id, amount in amounts.items():
        if line_id not in remaining:
            raise NotCreditable(reason="a line is of another invoice", line_id=line_id)
        most = remaining[line_id]
        if amount.currency != most.currency:
            raise NotCreditable(reason=f"the invoice is in {invoice.currency}", line_id=line_id)
        money.to_minor_units(amount)
        if not 0 < amount.amount <= most.amount:
            raise NotCreditable(
                reason=f"{money.text(most)} of “{names[line_id]}” are left to credit",
                line_id=line_id,
            )
