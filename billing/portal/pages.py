"""The portal: what a customer has, what it used, what it was invoiced."""

from datetime import datetime
from typing import Any, Final

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from billing import (
    customers,
    dunning,
    standing,
    tax_location,
)
from billing.models import Customer, TopUp
from billing.pages import show
from billing.portal import invoices as invoice_lines
from billing.portal import purchases
from billing.portal.people import may_buy, of_customer
from ledger import parking, queries, usage

RUNS_ON_OVERVIEW_MAX: Final = 8
RUNS_MAX: Final = 200
INVOICES_MAX: Final = 100


@login_required
def portal(request: HttpRequest) -> HttpResponse:
    """A person of several customers chooses; others go straight on."""
    own = list(customers.of_person(user=request.user).order_by("name"))
    if len(own) == 1:
        return redirect("overview", reference=own[0].reference)
    return show(request, "portal/customers.html" if own else "portal/nowhere.html", {"own": own})


@of_customer
def overview(request: HttpRequest, *, customer: Customer) -> HttpResponse:
    now = timezone.now()
    stands = standing.of_customer(customer=customer, at=now)
    context = {
        **shared(request, customer, tab="overview"),
        "standing": stands,
        "held_microtokens": standing.held_microtokens(customer, at=now),
        "days_left": None if stands.period is None else _days(now, stands.period.ends_at),
        "use": _use(stands),
        "runs": queries.runs(account_id=customer.account_id, runs_max=RUNS_ON_OVERVIEW_MAX),
        "pending": pending_top_ups(customer),
        "waiting_count": _waiting_count(customer),
    }
    return show(request, "portal/overview.html", context, time_zone=customer.time_zone)


@of_customer
def runs(request: HttpRequest, *, customer: Customer) -> HttpResponse:
    latest = queries.runs(account_id=customer.account_id, runs_max=RUNS_MAX)
    context = {
        **shared(request, customer, tab="runs"),
        "runs": latest,
        "runs_max": RUNS_MAX,
        "waiting_count": _waiting_count(customer),
        "runs_count": queries.runs_count(account_ids=[customer.account_id]),
    }
    return show(request, "portal/runs.html", context, time_zone=customer.time_zone)


@of_customer
def invoices(request: HttpRequest, *, customer: Customer) -> HttpResponse:
    context = {
        **shared(request, customer, tab="invoices"),
        "invoices": invoice_lines.latest(customer=customer, invoices_max=INVOICES_MAX),
        "purchases": purchases.latest(customer=customer, top_ups_max=INVOICES_MAX),
    }
    return show(request, "portal/invoices.html", context, time_zone=customer.time_zone)


def shared(request: HttpRequest, customer: Customer, *, tab: str) -> dict[str, Any]:
    """What every page about a customer shows."""
    return {
        "customer": customer,
        "tab": tab,
        "may_buy": may_buy(request=request, customer=customer),
        "unpaid": dunning.cases(customers=[customer], at=timezone.now()).get(customer.pk, ()),
        "waits_for_address": tax_location.waiting(customer=customer).exists(),
        "has_several": customers.of_person(user=request.user).count() > 1,
    }


def pending_top_ups(customer: Customer) -> list[TopUp]:
    """Begun, and neither granted nor given up."""
    begun = TopUp.objects.filter(customer=customer, fulfilment__isnull=True)
    open_ = begun.exclude(session__expired_at__isnull=False).filter(charge__isnull=True)
    return list(open_.select_related("pack", "session").order_by("-begun_at")[:5])


def _waiting_count(customer: Customer) -> int:
    """Runs that no rate prices yet: they are not debited, and in no list of runs."""
    waits = parking.waits_of_accounts(account_ids=[customer.account_id])
    return sum(wait.runs_count for wait in waits.get(customer.account_id, ()))


def _use(stands: standing.Standing) -> list[dict[str, Any]]:
    """Tokens by workflow in the period that runs, each beside the largest."""
    if stands.period is None:
        return []
    lines = usage.by_workflow(
        account_id=stands.customer.account_id,
        from_at=stands.period.starts_at,
        until_at=stands.at,
    )
    largest = max((line.microtokens for line in lines), default=0) or 1
    return [{"line": line, "percent": line.microtokens * 100 // largest} for line in lines]


def _days(now: datetime, then: datetime) -> int:
    """Whole days, the last begun one counted."""
    return -((now - then).days)
