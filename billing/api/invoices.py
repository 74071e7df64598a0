"""Invoices for machines: the next one, those that were built, and each by cost centre.

Amounts are whole numbers, in micros.
"""

import uuid
from typing import Any, Final

import msgspec
from django.http import HttpResponse
from django.utils import timezone
from rest_framework.exceptions import NotFound
from rest_framework.request import Request

from billing import invoicing, money, previews, statements
from billing.models import Customer, Invoice, InvoiceLine, Period
from billing.previews import NextInvoice
from billing.statements import Portion, Statement
from ledger.api import answers
from ledger.api.authority import book_id
from ledger.api.runs import KeyView
from ledger.errors import UnknownAccount
from ledger.units import tokens_text

INVOICES_MAX: Final = 100


class NextInvoiceOfAccount(KeyView):
    """GET /api/v1/accounts/ACCOUNT/next-invoice: what it would say if it were built now."""

    def get(self, request: Request, account: str) -> HttpResponse:
        customer = customer_of(request, account)
        shown = previews.next_invoice(customer=customer, at=timezone.now())
        answer = {"account": account, "next_invoice": None if shown is None else _next(shown)}
        return json(answer)


class InvoicesOfAccount(KeyView):
    """GET /api/v1/accounts/ACCOUNT/invoices: the latest ones, newest first."""

    def get(self, request: Request, account: str) -> HttpResponse:
        customer = customer_of(request, account)
        latest = (
            customer.invoices.select_related("period", "finalization", "payment", "carried")
            .prefetch_related("lines__period", "payment_failures", "given_up")
            .order_by("-built_at", "-id")
        )
        return json({"invoices": [_invoice(one) for one in latest[:INVOICES_MAX]]})


class StatementOfInvoice(KeyView):
    """GET /api/v1/accounts/ACCOUNT/invoices/ID/statement: the invoice by cost centre."""

    def get(self, request: Request, account: str, invoice: uuid.UUID) -> HttpResponse:
        found = customer_of(request, account).invoices.filter(pk=invoice).first()
        if found is None:
            raise NotFound(detail="the account has no such invoice", code="unknown_invoice")
        return json(_statement(statements.of_invoice(invoice=found, at=timezone.now())))


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


def _invoice(of: Invoice) -> dict[str, Any]:
    lines = list(of.lines.all())
    return {
        "id": str(of.pk),
        "number": of.finalization.number if hasattr(of, "finalization") else None,
        "state": invoicing.state(invoice=of),
        "occasion": of.occasion,
        "period": span(of.period),
        "built_at": answers.instant(of.built_at),
        "currency": of.currency,
        "lines": [_line(line) for line in lines],
        "total_micros": sum(money.to_micros(line.amount) for line in lines),
    }


def _statement(of: Statement) -> dict[str, Any]:
    portions: dict[str, list[Portion]] = {}
    for portion in of.portions:
        portions.setdefault(portion.cost_centre, []).append(portion)
    return {
        "invoice": str(of.invoice.pk),
        "period": span(of.invoice.period),
        "currency": of.invoice.currency,
        "is_final": of.is_final,
        "total_micros": money.to_micros(of.total),
        "cost_centres": [
            {
                "cost_centre": one.cost_centre or None,
                "microtokens": one.microtokens,
                "tokens": tokens_text(one.microtokens),
                "amount_micros": money.to_micros(one.amount),
                "lines": [_portion(portion) for portion in portions.get(one.cost_centre, ())],
            }
            for one in of.cost_centres
        ],
    }


def _portion(of: Portion) -> dict[str, Any]:
    return {
        "kind": of.line.kind,
        "description": of.line.description,
        "period": span(of.line.period),
        "amount_micros": money.to_micros(of.amount),
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
