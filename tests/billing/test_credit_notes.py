"""Credit notes against the simulator: real HTTP, the official SDK, signed events."""

import uuid
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from djmoney.money import Money

from billing import credit_notes, invoicing
from billing.errors import AmountNotPayable, KeyReused, NotCreditable, NothingToAskAgain
from billing.models import (
    CreditNote,
    CreditNoteIssued,
    CreditNoteRefused,
    CreditNoteVoided,
    Customer,
    Invoice,
    Notice,
    StripeCall,
)
from billing.stripe import outbox, reconcile, troubles
from tests.billing.buying import hear, now, send
from tests.billing.test_invoices_at_stripe import scene

pytestmark = pytest.mark.django_db


def eur(amount) -> Money:
    return Money(Decimal(str(amount)), "EUR")


def ask(invoice: Invoice, *amounts, key=None, **more: Any) -> CreditNote:
    """So much of each line, in their order."""
    lines = invoice.lines.order_by("position")
    given = {line.pk: eur(amount) for line, amount in zip(lines, amounts, strict=False) if amount}
    return credit_notes.ask(
        invoice_id=invoice.pk,
        amounts=given,
        asked_by=None,
        idempotency_key=key or uuid.uuid4(),
        at=now(),
        **more,
    )


@pytest.fixture
def paid(at_stripe) -> Invoice:
    """EUR 500 and 1,000, paid by card."""
    customer = scene()
    send()
    return Invoice.objects.get(customer=customer)


@pytest.fixture
def unpaid(at_stripe) -> Invoice:
    """EUR 500 and 1,000, to be paid within 30 days."""
    customer = scene(payment_days=30)
    send()
    return Invoice.objects.get(customer=customer)


def fresh(invoice: Invoice) -> Invoice:
    return Invoice.objects.get(pk=invoice.pk)


def at_theirs(at_stripe, invoice: Invoice):
    return at_stripe.api().v1.invoices.retrieve(invoice.finalization.stripe_invoice_id)


def charges(at_stripe):
    return [(one.amount, one.amount_refunded) for one in at_stripe.api().v1.charges.list().data]


def test_of_an_open_invoice_less_is_due(at_stripe, unpaid):
    note = ask(unpaid, 100, 250, reason="order_change", memo="Two seats fewer")
    send()
    issued = CreditNoteIssued.objects.get()
    assert issued.credit_note == note
    assert (issued.total, issued.taken_off, issued.paid_back) == (eur(350), eur(350), eur(0))
    theirs = at_theirs(at_stripe, unpaid)
    assert (theirs.amount_due, theirs.status) == (115_000, "open")
    [made] = at_stripe.api().v1.credit_notes.list().data
    assert (made.memo, made.reason, made.number) == (
        "Two seats fewer",
        "order_change",
        issued.number,
    )
    at_stripe.pay(unpaid.finalization.hosted_url)
    hear(at_stripe)
    assert fresh(unpaid).payment.amount == eur(1_150)
    assert invoicing.state(invoice=fresh(unpaid)) == "paid"


def test_of_a_paid_invoice_the_money_goes_back(at_stripe, paid):
    ask(paid, 0, 250)
    send()
    issued = CreditNoteIssued.objects.get()
    assert (issued.taken_off, issued.paid_back) == (eur(0), eur(250))
    assert charges(at_stripe) == [(150_000, 25_000)]
    hear(at_stripe, times=2)
    assert CreditNote.objects.count() == 1
    assert credit_notes.left(invoice=paid) == {
        line.pk: eur(amount)
        for line, amount in zip(paid.lines.order_by("position"), (500, 750), strict=True)
    }


def test_what_was_paid_may_be_paid_back_otherwise(at_stripe, paid):
    ask(paid, 500, is_out_of_band=True)
    send()
    assert CreditNoteIssued.objects.get().paid_back == eur(500)
    assert charges(at_stripe) == [(150_000, 0)]


def test_an_open_invoice_that_is_credited_whole_is_over(at_stripe, unpaid):
    ask(unpaid, 500, 1_000)
    send()
    hear(at_stripe)
    assert at_theirs(at_stripe, unpaid).status == "paid"
    assert invoicing.state(invoice=fresh(unpaid)) == "credited"
    assert fresh(unpaid).payment.amount == eur(0)
    assert charges(at_stripe) == []


def test_four_credit_notes_come_to_the_invoice_with_tax_to_the_cent(at_stripe, settings):
    """68.33, 68.33, 57.50 and 85.00 with 20 %: 334.99, not 335.00."""
    settings.STRIPE_TAX = True
    at_stripe.tell("tax", percent=20)
    terms = {"platform_fee": Decimal("136.66"), "allotment_price": Decimal("142.50")}
    customer = scene(payment_days=30, terms=terms)
    send()
    theirs = Customer.objects.get(pk=customer.pk).stripe_customer_id
    at_stripe.api().v1.customers.update(theirs, {"address": {"country": "FR", "line1": "1"}})
    call = StripeCall.objects.get(operation="invoice.finalize")
    if call.refused_at is not None:
        troubles.ask_again(call_id=call.pk, at=now())
        send()
    invoice = customer.invoices.get()
    assert invoice.finalization.total == eur("334.99")
    for amounts in ((68.33,), (68.33,), (0, 57.5), (0, 85)):
        ask(invoice, *amounts)
        send()
    issued = CreditNoteIssued.objects.order_by("id")
    assert sum(one.total.amount for one in issued) == Decimal("334.99")
    assert credit_notes.total_left(invoice=invoice) == eur(0)
    hear(at_stripe)
    assert invoicing.state(invoice=fresh(invoice)) == "credited"


@pytest.mark.parametrize(
    ("amounts", "says"),
    [
        ((500.01,), r"€500.00 of “Platform fee.*” are left to credit"),
        ((0, 0), "how much of which line"),
        ((-1,), "are left to credit"),
    ],
)
def test_never_more_than_is_left_of_a_line(at_stripe, paid, amounts, says):
    with pytest.raises(NotCreditable, match=says):
        ask(paid, *amounts)
    assert not CreditNote.objects.exists()


def test_what_is_credited_once_is_not_credited_again(at_stripe, paid):
    ask(paid, 400)
    with pytest.raises(NotCreditable, match="under way"):
        ask(paid, 100)
    send()
    with pytest.raises(NotCreditable, match=r"€100\.00 of"):
        ask(paid, 100.01)
    ask(paid, 100)
    send()
    assert charges(at_stripe) == [(150_000, 50_000)]


def test_what_cannot_be_paid_or_is_of_another_invoice_is_refused(at_stripe, paid, unpaid):
    with pytest.raises(AmountNotPayable):
        ask(paid, 1.001)
    [foreign, _] = unpaid.lines.order_by("position")
    given: Any = {"asked_by": None, "idempotency_key": uuid.uuid4(), "at": now()}
    with pytest.raises(NotCreditable, match="of another invoice"):
        credit_notes.ask(invoice_id=paid.pk, amounts={foreign.pk: eur(1)}, **given)
    [own, _] = paid.lines.order_by("position")
    with pytest.raises(NotCreditable, match="is in EUR"):
        credit_notes.ask(invoice_id=paid.pk, amounts={own.pk: Money(1, "USD")}, **given)


def test_an_invoice_that_is_not_issued_or_is_void_cannot_be_credited(at_stripe):
    customer = scene(payment_days=30)
    invoice = customer.invoices.get()
    with pytest.raises(NotCreditable, match="not issued yet"):
        ask(invoice, 1)
    send()
    invoice = fresh(invoice)
    at_stripe.api().v1.invoices.void_invoice(invoice.finalization.stripe_invoice_id)
    hear(at_stripe)
    with pytest.raises(NotCreditable, match="void"):
        ask(fresh(invoice), 1)


def test_the_same_key_credits_once_and_not_another_invoice(at_stripe, paid, unpaid):
    key = uuid.uuid4()
    assert ask(paid, 10, key=key) == ask(paid, 10, key=key)
    send()
    assert charges(at_stripe) == [(150_000, 1_000)]
    with pytest.raises(KeyReused):
        ask(unpaid, 10, key=key)


@pytest.mark.parametrize(
    ("kind", "times"), [("reset_before", 3), ("reset_after_commit", 3), ("status", 1)]
)
def test_a_note_whose_answer_is_lost_is_made_once(at_stripe, paid, kind, times):
    ask(paid, 10)
    more = {"status": 503, "after_commit": True} if kind == "status" else {}
    at_stripe.fault(kind=kind, path="^/v1/credit_notes$", times=times, **more)
    send()
    for minutes in (1, 10, 70, 80):
        at = now() + timedelta(minutes=minutes)
        outbox.send_due(at=at)
        reconcile.reconcile(at=at)
    assert charges(at_stripe) == [(150_000, 1_000)]
    assert CreditNoteIssued.objects.get().total == eur(10)


def test_an_invoice_that_was_paid_meanwhile_is_not_credited_wrongly(at_stripe, unpaid):
    """It was open when Stripe was asked what the note comes to, and is paid when it is made."""
    ask(unpaid, 10)
    preview = StripeCall.objects.get(operation="credit_note.preview")
    outbox.send(call_id=preview.pk, at=now())
    at_stripe.pay(unpaid.finalization.hosted_url)
    send()
    assert "post payment amount" in CreditNoteRefused.objects.get().message
    assert credit_notes.left(invoice=unpaid)[unpaid.lines.order_by("position")[0].pk] == eur(500)
    call = StripeCall.objects.get(operation="credit_note.create")
    assert troubles.standing(at=now()).filter(pk=call.pk).exists()
    with pytest.raises(NothingToAskAgain):
        troubles.ask_again(call_id=call.pk, at=now())
    hear(at_stripe)
    ask(fresh(unpaid), 10)
    send()
    assert not troubles.standing(at=now()).exists()
    assert charges(at_stripe) == [(150_000, 1_000)]


def test_a_note_made_at_stripe_counts_as_one_of_ours(at_stripe, unpaid):
    theirs = at_theirs(at_stripe, unpaid)
    line = at_stripe.api().v1.invoices.line_items.list(theirs.id).data[0]
    credited: Any = {"type": "invoice_line_item", "invoice_line_item": line.id, "amount": 5_000}
    made = at_stripe.api().v1.credit_notes.create({"invoice": theirs.id, "lines": [credited]})
    hear(at_stripe, "credit_note.created", times=2)
    assert reconcile.look_back(at=now()) == 1
    note = CreditNote.objects.get()
    assert [one.amount for one in note.lines.all()] == [eur(50)]
    assert credit_notes.total_left(invoice=unpaid) == eur(1_450)
    at_stripe.api().v1.credit_notes.void_credit_note(made.id)
    hear(at_stripe, "credit_note.voided")
    assert CreditNoteVoided.objects.get().credit_note == note
    assert credit_notes.total_left(invoice=unpaid) == eur(1_500)


def test_a_credit_that_could_not_be_paid_back_is_told(at_stripe, paid):
    at_stripe.fault(kind="refund", outcome="failed")
    ask(paid, 10)
    send()
    hear(at_stripe)
    assert not Notice.objects.exists()
    at_stripe.advance(86_400)
    hear(at_stripe, "refund.failed", times=2)
    assert "a refund of €10.00 did not go through" in Notice.objects.get().subject
    assert CreditNoteIssued.objects.get().paid_back == eur(10)
