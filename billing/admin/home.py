"""The admin's first page: what to do next, until a vendor's business runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from billing.admin import journal
from billing.models import (
    AlertMessage,
    Customer,
    Invoice,
    PlanVersion,
    Subscription,
    TopUpPack,
    Vendor,
)
from billing.stripe import troubles
from config.admin import ADMIN, EVERYBODY, FINANCE, books_of
from ledger import catalog, parking, queries

WAITS_SHOWN_MAX = 20


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing that a vendor does before the first invoice."""

    title: str
    sentence: str
    done: bool
    url: str  # "" for those who may not do it
    action: str


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A number to look at each morning, and where it leads."""

    label: str
    value: int
    url: str


def with_steps(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Called by the admin's index."""
    books = books_of(request, roles=EVERYBODY)
    vendors = Vendor.objects.filter(book_id__in=books)
    steps = _steps(request, books)
    context["vendor_names"] = ", ".join(vendors.order_by("name").values_list("name", flat=True))
    context["steps"] = steps
    context["next_step"] = next((step for step in steps if not step.done), None)
    context["figures"] = _figures(books)
    context["troubles"] = troubles.of_books(book_ids=books, at=timezone.now())
    context["journals"] = journal.pictures(request)
    context["waits"] = parking.waits(book_ids=books)[:WAITS_SHOWN_MAX]
    context["may_ask_again"] = bool(books_of(request, roles=frozenset({ADMIN, FINANCE})))
    return context


def _steps(request: HttpRequest, books: Sequence[int]) -> list[Step]:
    published = {"published_at__isnull": False}
    return [
        Step(
            title="Say what a token is",
            sentence="One unit of work that a buyer understands: a contract reviewed, 1,000 rows.",
            done=any(catalog.units(book_id=book_id) for book_id in books),
            url=_add(request, "ledger.unit"),
            action="Define a unit",
        ),
        Step(
            title="Say what work costs in tokens",
            sentence="Name what is measured (a meter), then publish a rate card that prices it.",
            done=any(catalog.rate_cards(book_id=book_id) for book_id in books),
            url=_list("ledger.ratecard"),
            action="Make a rate card",
        ),
        Step(
            title="Publish a plan",
            sentence="Fee, tokens, what is left over, what goes beyond. It explains itself.",
            done=PlanVersion.objects.filter(plan__vendor__book_id__in=books, **published).exists(),
            url=_list("billing.plan"),
            action="Build a plan",
        ),
        Step(
            title="Put a top-up pack up for sale",
            sentence="Tokens that customers buy themselves when the plan's run low.",
            done=TopUpPack.objects.filter(vendor__book_id__in=books, **published).exists(),
            url=_add(request, "billing.topuppack"),
            action="Make a pack",
        ),
        Step(
            title="Open a customer, and put it on the plan",
            sentence="Its account opens with it, its first tokens with its subscription.",
            done=Subscription.objects.filter(customer__vendor__book_id__in=books).exists(),
            url=_customer_step(request, books),
            action="Go on",
        ),
        Step(
            title="Send the first run",
            sentence="Issue an API key and send what your software has done: POST /api/v1/runs.",
            done=_has_runs(books),
            url=_add(request, "ledger.apikey"),
            action="Issue a key",
        ),
    ]


def _customer_step(request: HttpRequest, books: Sequence[int]) -> str:
    if Customer.objects.filter(vendor__book_id__in=books).exists():
        return _add(request, "billing.subscription")
    return _add(request, "billing.customer")


def _add(request: HttpRequest, model: str) -> str:
    """Where a row is added; "" for those who may not: a colleague does it."""
    rows = apps.get_model(model)
    may = admin.site._registry[rows].has_add_permission(request)
    return reverse(f"admin:{model.replace('.', '_')}_add") if may else ""


def _list(model: str) -> str:
    return reverse(f"admin:{model.replace('.', '_')}_changelist")


def _has_runs(books: Sequence[int]) -> bool:
    customers = Customer.objects.filter(vendor__book_id__in=books)
    accounts = list(customers.values_list("account_id", flat=True)[:1_000])
    return bool(accounts) and queries.runs_count(account_ids=accounts) > 0


def _figures(books: Sequence[int]) -> list[Figure]:
    customer = {"customer__vendor__book_id__in": books}
    unpaid = Invoice.objects.filter(payment__isnull=True, given_up__isnull=True, **customer)
    open_alerts = AlertMessage.objects.filter(
        acknowledged_at__isnull=True, period__subscription__customer__vendor__book_id__in=books
    )
    running = Subscription.objects.filter(cancelled_at__isnull=True, **customer)
    return [
        Figure(
            label="subscriptions running",
            value=running.filter(starts_at__lte=timezone.now()).count(),
            url=_list("billing.subscription"),
        ),
        Figure(
            label="alerts to acknowledge",
            value=open_alerts.count(),
            url=_list("billing.alertmessage"),
        ),
        Figure(
            label="invoices not paid yet",
            value=unpaid.count(),
            url=_list("billing.invoice"),
        ),
    ]
