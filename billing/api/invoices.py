"""What a customer will be invoiced, for machines. Amounts are whole numbers, in micros."""

from typing import Any

import msgspec
from django.http import HttpResponse
from django.utils import timezone
from rest_framework.request import Request

from billing import money, previews
from billing.models import Customer, InvoiceLine, Period
from billing.previews import NextInvoice
from ledger.api import answers
from ledger.api.authority import book_id
from ledger.api.runs import KeyView
from ledger.errors import UnknownAccount


class NextInvoiceOfAccount(KeyView):
    """GET /api/v1/accounts/ACCOUNT/next-invoice: what it would say if it were built now."""

    def get(self, request: Request, account: str) -> HttpResponse:
        customer = customer_of(request, account)
        shown = previews.next_invoice(customer=customer, at=timezone.now())
        answer = {"account": account, "next_invoice": None if shown is None else _next(shown)}
        return json(answer)


def customer_of(request: Request, account: str) -> Customer:
    """The customer that the key's vendor knows by this code. Raises UnknownAccount."""
    own = Customer.objects.filter(vendor__book_id=book_id(request), code=account)
    if (customer := own.first()) is None:
        raise UnknownAccount(account=account)
    return customer


def json(answer: object) -> HttpResponse:
    return HttpResponse(msgspec.json.encode(answer), content_type="application/json")


def span(period: Period) -> dict[str, Any]:
    return {
        "number": period.number,
        "starts_at": answers.instant(period.starts_at),
        "ends_at": answers.instant(period.ends_at),
    }


def _next(of: NextInvoice) -> dict[str, Any]:
    return {
        "occasion": of.occasion,
        "period": span(of.period),
        "due_at": None if of.due_at is None else answers.instant(of.due_at),
        "at": answers.instant(of.at),
        "currency": of.total.currency.code,
        "lines": [_line(line) for line in of.lines],
        "total_micros": money.to_micros(of.total),
        "total": money.text(of.total),
        "is_carried": of.is_carried,
    }


def _line(of: InvoiceLine) -> dict[str, Any]:
    return {
        "kind": of.kind,
        "description": of.description,
        "period": span(of.period),
        "microtokens": of.microtokens,
        "cost_micros": of.micros,
        "covered_micros": of.covered_micros,
        "amount_micros": money.to_micros(of.amount),
    }
