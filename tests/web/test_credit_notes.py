"""Credit notes as people see them: asked for on the invoice's page, shown in the portal."""

import uuid
from datetime import UTC, datetime

import pytest
from djmoney.money import Money

from billing import credit_notes, invoicing
from billing.models import CreditNote, Invoice, StripeCall
from billing.stripe.facts import CreditNoteFacts
from tests import builders
from tests.web.conftest import Company, text_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def invoice(ours: Company) -> Invoice:
    """EUR 500 and 1,000, issued, to be paid."""
    made = Invoice.objects.get(customer=ours.customer)
    invoicing.record_finalization(
        invoice=made,
        stripe_invoice_id="in_1",
        number="OURS-1",
        hosted_url="",
        subtotal=Money(1_500, "EUR"),
        total=Money(1_500, "EUR"),
        finalized_at=datetime.now(UTC),
    )
    return Invoice.objects.get(pk=made.pk)


def page(invoice: Invoice) -> str:
    return f"/admin/billing/invoice/{invoice.pk}/credit/"


def typed(invoice: Invoice, *amounts: str, **more: str) -> dict[str, str]:
    lines = invoice.lines.order_by("position")
    given = {f"line_{line.pk}": amount for line, amount in zip(lines, amounts, strict=True)}
    return {"key": str(uuid.uuid4()), "reason": "", "memo": "", **given, **more}


def test_an_invoice_is_credited_line_by_line_on_its_page(ours, signed_in, invoice) -> None:
    client = signed_in(ours.admin)
    shown = text_of(client.get(page(invoice)))
    assert "At most €500.00, before tax." in shown
    sent = typed(invoice, "100", "", reason="duplicate", memo="Two seats fewer")
    for _ in range(2):
        client.post(page(invoice), sent)
    note = CreditNote.objects.get()
    assert (note.reason, note.memo, note.asked_by) == ("duplicate", "Two seats fewer", ours.admin)
    assert [one.amount for one in note.lines.all()] == [Money(100, "EUR")]
    assert StripeCall.objects.filter(operation="credit_note.preview").count() == 1
    told = text_of(client.get(f"/admin/billing/invoice/{invoice.pk}/change/"))
    assert "€100.00 before tax" in told
    assert "under way" in told


@pytest.mark.parametrize(
    ("amounts", "says"),
    [
        (("500.01", ""), "are left to credit"),
        (("", ""), "say how much of which line"),
        (("-1", ""), "greater than or equal to 0"),
        (("0.001", ""), "not an amount that can be paid in EUR"),
        (("much", ""), "Enter a number."),
    ],
)
def test_what_is_typed_wrongly_is_said_at_its_field_and_nothing_is_credited(
    ours, signed_in, invoice, amounts, says
) -> None:
    answer = signed_in(ours.admin).post(page(invoice), typed(invoice, *amounts))
    assert answer.status_code == 200
    assert says in text_of(answer)
    assert not CreditNote.objects.exists()


def test_only_those_who_look_after_money_credit_and_none_of_another_vendor(
    ours, theirs, signed_in, invoice
) -> None:
    finance = builders.employee(ours.shop, role="finance", name="finance")
    for person, status in (
        (finance, 200),
        (ours.pricing, 404),
        (ours.account_manager, 404),
        (theirs.admin, 404),
    ):
        assert signed_in(person).get(page(invoice)).status_code == status, person
    assert signed_in(theirs.admin).post(page(invoice), typed(invoice, "1", "")).status_code == 404
    assert not CreditNote.objects.exists()


def test_the_portal_shows_credit_notes_to_their_customer_alone(
    ours, theirs, signed_in, invoice
) -> None:
    line = invoice.lines.order_by("position")[0]
    note = credit_notes.ask(
        invoice_id=invoice.pk,
        amounts={line.pk: Money(100, "EUR")},
        asked_by=None,
        idempotency_key=uuid.uuid4(),
        at=datetime.now(UTC),
    )
    told = CreditNoteFacts(
        stripe_id="cn_1",
        stripe_invoice_id="in_1",
        number="OURS-1-CN-01",
        pdf_url="https://example.com/pdf",
        subtotal=Money(100, "EUR"),
        total=Money(100, "EUR"),
        taken_off=Money(100, "EUR"),
        paid_back=Money(0, "EUR"),
        metadata={},
        created_at=datetime.now(UTC),
        voided_at=None,
        lines={},
    )
    credit_notes.record_issued(credit_note=note, told=told, at=datetime.now(UTC))
    address = f"/portal/{ours.customer.reference}/invoices/"
    shown = text_of(signed_in(ours.buyer).get(address))
    assert "OURS-1-CN-01" in shown
    assert "€100.00" in shown
    assert signed_in(theirs.buyer).get(address).status_code == 404
