"""An invoice by cost centre, as a page and as CSV."""

import csv
import uuid

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone

from billing import statements
from billing.models import Customer, Invoice
from billing.pages import show
from billing.portal.pages import shared
from billing.portal.people import of_customer
from billing.statements import Statement
from ledger.units import tokens_text

CSV_COLUMNS = (
    *("invoice", "number", "period_starts_at", "period_ends_at", "cost_centre", "kind"),
    *("description", "tokens", "amount", "currency", "is_final"),
)
# What a spreadsheet would take for a formula.
FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")


@of_customer
def statement(request: HttpRequest, *, customer: Customer, invoice_id: uuid.UUID) -> HttpResponse:
    found = _statement(customer, invoice_id)
    context = {**shared(request, customer, tab="invoices"), "statement": found}
    return show(request, "portal/statement.html", context, time_zone=customer.time_zone)


@of_customer
def statement_csv(
    request: HttpRequest, *, customer: Customer, invoice_id: uuid.UUID
) -> HttpResponse:
    """A row for each line and cost centre; `amount` adds up to the invoice before tax."""
    found = _statement(customer, invoice_id)
    name = f"statement-{found.invoice.built_at:%Y-%m-%d}-{found.invoice.pk}.csv"
    response = HttpResponse(
        content_type="text/csv; charset=utf-8",
        headers={
            "Content-Disposition": f'attachment; filename="{name}"',
            "Cache-Control": "private, no-store",
        },
    )
    writer = csv.writer(response)
    writer.writerow(CSV_COLUMNS)
    writer.writerows(_rows(found))
    return response


def _statement(customer: Customer, invoice_id: uuid.UUID) -> Statement:
    own = Invoice.objects.filter(customer=customer).select_related("period", "finalization")
    invoice = get_object_or_404(own, pk=invoice_id)
    return statements.of_invoice(invoice=invoice, at=timezone.now())


def _rows(of: Statement) -> list[list[str]]:
    number = of.invoice.finalization.number if hasattr(of.invoice, "finalization") else ""
    return [
        [
            str(of.invoice.pk),
            _plain(number),
            one.line.period.starts_at.isoformat(),
            one.line.period.ends_at.isoformat(),
            _plain(one.cost_centre),
            one.line.kind,
            _plain(one.line.description),
            tokens_text(one.microtokens),
            f"{one.amount.amount.normalize():f}",
            of.invoice.currency,
            "true" if of.is_final else "false",
        ]
        for one in of.portions
    ]


def _plain(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA_SIGNS) else text
