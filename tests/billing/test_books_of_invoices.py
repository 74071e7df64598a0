"""The books of invoices that are given up, credited or void: nothing is taken off twice."""

from decimal import Decimal

import pytest
from djmoney.money import Money

from billing import invoicing
from billing.books import chart
from billing.models import CreditNote, CreditNoteIssued, CreditNoteLine, CreditNoteVoided
from tests.billing.bookkeeping import EURO, close, exact, issue, pay, scene
from tests.builders import DAY, OCTOBER

pytestmark = pytest.mark.django_db


def test_an_invoice_given_up_is_an_expense_until_it_is_paid_after_all():
    customer = scene(allotment_microtokens=0, allotment_price=Decimal(0))
    invoice = issue(customer.invoices.get(), at=OCTOBER, tax=Decimal(100))
    invoicing.record_given_up(invoice=invoice, kind="uncollectible", given_up_at=OCTOBER + DAY)
    close(customer, OCTOBER + DAY)
    assert exact(customer, chart.RECEIVABLE, chart.WRITTEN_OFF) == {chart.WRITTEN_OFF: 600 * EURO}
    pay(invoice, at=OCTOBER + 2 * DAY)
    close(customer, OCTOBER + 2 * DAY)
    assert exact(customer, chart.RECEIVABLE, chart.WRITTEN_OFF, chart.CASH) == {
        chart.CASH: 600 * EURO
    }


def credit_note(invoice):
    """EUR 50 and its tax of 10, taken off what is due on 2 October."""
    note = CreditNote.objects.create(invoice=invoice, asked_at=OCTOBER)
    CreditNoteLine.objects.create(
        credit_note=note, line=invoice.lines.get(), amount=Money(50, "EUR")
    )
    CreditNoteIssued.objects.create(
        credit_note=note,
        stripe_credit_note_id="cn_1",
        number="CN-1",
        subtotal=Money(50, "EUR"),
        total=Money(60, "EUR"),
        taken_off=Money(60, "EUR"),
        paid_back=Money(0, "EUR"),
        issued_at=OCTOBER + DAY,
    )
    return note


def test_a_credit_note_takes_off_what_is_due_and_its_tax_unless_it_is_voided():
    customer = scene(allotment_microtokens=0, allotment_price=Decimal(0))
    note = credit_note(issue(customer.invoices.get(), at=OCTOBER, tax=Decimal(100)))
    close(customer, OCTOBER + DAY)
    assert exact(customer, chart.RECEIVABLE, chart.TAX, chart.CREDITED) == {
        chart.RECEIVABLE: 540 * EURO,
        chart.TAX: -90 * EURO,
        chart.CREDITED: 50 * EURO,
    }
    CreditNoteVoided.objects.create(credit_note=note, voided_at=OCTOBER + 3 * DAY)
    close(customer, OCTOBER + 3 * DAY)
    assert exact(customer, chart.RECEIVABLE, chart.TAX, chart.CREDITED) == {
        chart.RECEIVABLE: 600 * EURO,
        chart.TAX: -100 * EURO,
    }


def test_a_voided_invoice_is_not_owed_nor_is_its_tax():
    customer = scene(allotment_microtokens=0, allotment_price=Decimal(0))
    invoice = issue(customer.invoices.get(), at=OCTOBER, tax=Decimal(100))
    invoicing.record_given_up(invoice=invoice, kind="void", given_up_at=OCTOBER + DAY)
    close(customer, OCTOBER + DAY)
    assert exact(customer, chart.RECEIVABLE, chart.TAX, chart.VOIDED) == {chart.VOIDED: 500 * EURO}


def test_of_a_voided_invoice_nothing_is_taken_off_twice():
    customer = scene(allotment_microtokens=0, allotment_price=Decimal(0))
    invoice = issue(customer.invoices.get(), at=OCTOBER, tax=Decimal(100))
    note = credit_note(invoice)
    invoicing.record_given_up(invoice=invoice, kind="void", given_up_at=OCTOBER + 2 * DAY)
    close(customer, OCTOBER + 2 * DAY)
    accounts = (chart.RECEIVABLE, chart.TAX, chart.VOIDED, chart.CREDITED)
    credited = {chart.CREDITED: 50 * EURO, chart.VOIDED: 450 * EURO}
    assert exact(customer, *accounts) == credited
    CreditNoteVoided.objects.create(credit_note=note, voided_at=OCTOBER + 3 * DAY)
    close(customer, OCTOBER + 3 * DAY)
    assert exact(customer, *accounts) == {chart.VOIDED: 500 * EURO}
