"""Refunds, disputes and credit notes as they are, and what could be wrong with them."""

import uuid

from djmoney.money import Money

from billing import credit_notes, disputes, refunds
from billing.models import Invoice, Refund
from billing.stripe.facts import CreditNoteFacts
from tests.builders import NOVEMBER, TOKEN


def credited():
    """Two notes of an invoice that was paid, one refused, and one that was taken back."""
    invoice = Invoice.objects.filter(carried=None, lines__amount__gt=10).order_by("pk").first()
    assert invoice is not None
    line = invoice.lines.filter(amount__gt=10)[0]
    for number in range(1, 5):
        note = credit_notes.ask(
            invoice_id=invoice.pk,
            amounts={line.pk: Money(number, "EUR")},
            asked_by=None,
            idempotency_key=uuid.uuid4(),
            at=NOVEMBER,
        )
        if number == 3:
            credit_notes.record_refusal(credit_note=note, message="no", at=NOVEMBER)
            continue
        told = CreditNoteFacts(
            stripe_id=f"cn_{number}",
            stripe_invoice_id=f"in_{invoice.pk}",
            number=str(number),
            pdf_url="",
            subtotal=Money(number, "EUR"),
            total=Money(number, "EUR"),
            taken_off=Money(0, "EUR"),
            paid_back=Money(number, "EUR"),
            metadata={},
            created_at=NOVEMBER,
            voided_at=NOVEMBER if number == 4 else None,
            lines={},
        )
        credit_notes.record_issued(credit_note=note, told=told, at=NOVEMBER)


def refunded_and_disputed(top_up):
    """One refund succeeded, one is under way, one failed, one was found; a dispute is open."""
    for tokens in (10, 20, 30):
        refunds.ask(
            top_up_id=top_up.pk,
            microtokens=tokens * TOKEN,
            force=True,
            reason="",
            asked_by=None,
            idempotency_key=uuid.uuid4(),
            at=NOVEMBER,
        )
    done, _, failed = Refund.objects.order_by("microtokens")
    refunds.record_success(refund=done, at=NOVEMBER)
    refunds.record_failure(refund=failed, kind="failed", message="", at=NOVEMBER)
    found = refunds.find(
        top_up=top_up, stripe_refund_id="re_1", amount=Money(6, "EUR"), at=NOVEMBER
    )
    refunds.record_success(refund=found, at=NOVEMBER)
    for status in ("warning_needs_response", "needs_response"):
        disputes.record(
            stripe_dispute_id="du_1",
            top_up=top_up,
            invoice=None,
            amount=Money(60, "EUR"),
            reason="fraudulent",
            status=status,
            opened_at=NOVEMBER,
            at=NOVEMBER,
        )


# For each rule, something that a careless hand or a fault of ours could do.
FAULTS: dict[str, list[str]] = {
    "a top-up's lot was brought to what its refunds and disputes come to": [
        "UPDATE billing_refund SET microtokens = microtokens + 1 WHERE id ="
        " (SELECT refund_id FROM billing_refundatstripe LIMIT 1) OR microtokens = 10000000",
        "UPDATE billing_refund SET amount = amount + 1 WHERE microtokens IS NULL",
        "DELETE FROM billing_refundfailure",
        "DELETE FROM billing_refundsuccess",
        "DELETE FROM billing_topupreversal WHERE number = ("
        "SELECT max(number) FROM billing_topupreversal)",
        "UPDATE billing_disputestatus SET status = 'lost' WHERE status = 'needs_response'",
        "UPDATE billing_disputestatus SET status = 'won' WHERE status = 'needs_response'",
        "INSERT INTO billing_disputestatus (dispute_id, status, noted_at)"
        " SELECT id, 'warning_under_review', now() FROM billing_dispute",
    ],
    "a reversal says what the ledger took of the lot": [
        "UPDATE ledger_entry SET microtokens = microtokens + 1 WHERE kind = 'freeze'",
        "UPDATE billing_topupreversal SET revoked_microtokens = revoked_microtokens - 1"
        " WHERE revoked_microtokens > 0",
        "UPDATE billing_topupreversal SET owed_microtokens = 1, revoked_microtokens ="
        " revoked_microtokens - 1 WHERE revoked_microtokens > 0",
    ],
    "of free tokens no more is taken than their share, and nothing is owed": [
        "UPDATE ledger_entry SET operation_key = replace(operation_key, ':reversal:',"
        " ':bonus:reversal:') WHERE kind IN ('freeze', 'revoke')",
    ],
    "no more of a top-up is refunded than was paid for it": [
        "UPDATE billing_refund SET amount = 600.01 WHERE microtokens IS NULL",
        "UPDATE billing_refund SET currency = 'USD'",
        "DELETE FROM billing_topuppayment",
    ],
    "a refund that was asked for here is asked of Stripe": [
        "DELETE FROM billing_stripecall WHERE operation = 'refund.create'",
        "DELETE FROM billing_refundatstripe",
    ],
    "no more of an invoice's line is credited than it asked for": [
        "UPDATE billing_creditnoteline SET amount = 100000 WHERE credit_note_id IN"
        " (SELECT credit_note_id FROM billing_creditnoteissued)",
        "UPDATE billing_creditnote SET invoice_id = (SELECT id FROM billing_invoice WHERE id <>"
        " billing_creditnote.invoice_id LIMIT 1)",
    ],
    "what Stripe credits before tax is the sum of the credit note's lines": [
        "UPDATE billing_creditnoteissued SET subtotal = subtotal + 0.01",
        "UPDATE billing_creditnoteissued SET taken_off = taken_off + 0.01",
        "DELETE FROM billing_creditnoteline",
    ],
    "credit notes of an invoice come to no more than the invoice": [
        "UPDATE billing_creditnoteissued SET total = 100000",
        "DELETE FROM billing_invoicefinalization",
    ],
}
