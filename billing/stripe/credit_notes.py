"""What Stripe is asked of credit notes, and what it says of them, applied to the invoices.

What a note comes to with tax is asked first: of a paid invoice Stripe wants to be told how much it
shall pay back, to the cent.
"""

from datetime import datetime
from typing import Any

from billing import credit_notes, money
from billing.errors import PaymentDoesNotMatch
from billing.models import CreditNote, InvoiceFinalization, StripeCall
from billing.stripe import calls, gateway
from billing.stripe.facts import CreditNoteFacts
from billing.stripe.gateway import Reply

Json = dict[str, Any]


def preview(call: StripeCall) -> Reply:
    """The whole request that makes the note: its lines by Stripe's ids, and what is paid back.

    Raises PaymentDoesNotMatch if Stripe would credit another amount, or more than is left.
    """
    note = CreditNote.objects.select_related("invoice__finalization").get(pk=call.aggregate_id)
    stripe_invoice_id = note.invoice.finalization.stripe_invoice_id
    ids = {
        line.line_id: line.stripe_id
        for line in gateway.invoice_lines(stripe_invoice_id=stripe_invoice_id)
    }
    params = {
        **call.params,
        "invoice": stripe_invoice_id,
        "lines": [
            {
                "type": "invoice_line_item",
                "invoice_line_item": ids[str(credited.line_id)],
                "amount": money.to_minor_units(credited.amount),
            }
            for credited in note.lines.order_by("line_id")
        ],
    }
    told = gateway.preview_credit_note(params=params)
    _require_as_asked(note, told)
    paid_back = money.to_minor_units(told.paid_back)
    if paid_back:
        name = "out_of_band_amount" if note.is_out_of_band else "refund_amount"
        params[name] = paid_back
    return Reply(stripe_id=stripe_invoice_id, request_id="", http_status=200, body=params)


def refresh(*, stripe_credit_note_id: str, at: datetime) -> bool:
    """Ask Stripe how a note stands, and apply it; False: it is of nothing of ours."""
    told = gateway.credit_note(stripe_credit_note_id=stripe_credit_note_id)
    note_id = calls.own_uuid(told.metadata, "credit_note_id")
    note = CreditNote.objects.filter(pk=note_id).first() if note_id else None
    if note is not None:
        credit_notes.record_issued(credit_note=note, told=told, at=at)
        return True
    issued = InvoiceFinalization.objects.filter(stripe_invoice_id=told.stripe_invoice_id)
    finalization = issued.select_related("invoice").first()
    if finalization is None:
        return False
    lines = gateway.invoice_lines(stripe_invoice_id=told.stripe_invoice_id)
    ids = {line.stripe_id: int(line.line_id) for line in lines if line.line_id}
    credit_notes.find(invoice=finalization.invoice, told=told.with_lines(ids), at=at)
    return True


def _require_as_asked(note: CreditNote, told: CreditNoteFacts) -> None:
    wanted = sum(money.to_minor_units(credited.amount) for credited in note.lines.all())
    found = money.to_minor_units(told.subtotal)
    if wanted != found:
        raise PaymentDoesNotMatch(field="subtotal", expected=wanted, found=found)
    most = credit_notes.total_left(invoice=note.invoice)
    if told.total > most:
        raise PaymentDoesNotMatch(
            field="total", expected=f"at most {money.text(most)}", found=money.text(told.total)
        )
