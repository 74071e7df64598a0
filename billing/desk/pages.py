"""The account manager's desk: accounts by urgency, and one page for each."""

from typing import Any, Final

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

from billing import alerts, standing
from billing.desk import urgency
from billing.models import AlertMessage, Customer
from billing.pages import desk_books, show
from billing.portal import invoices, purchases
from ledger import queries

RUNS_MAX: Final = 15
FACTS_MAX: Final = 10


@login_required
def desk(request: HttpRequest) -> HttpResponse:
    own = list(_own_customers(request))
    cases = urgency.cases(customers=own, at=timezone.now())
    context = {
        "cases": cases,
        "alerts_count": sum(len(case.alerts) for case in cases),
        "waiting_count": sum(wait.runs_count for case in cases for wait in case.waits),
        "in_debt_count": sum(case.standing.balance.debt_microtokens > 0 for case in cases),
    }
    return show(request, "desk/desk.html", context)


@login_required
def account(request: HttpRequest, reference: str) -> HttpResponse:
    customer = get_object_or_404(_own_customers(request), reference=reference)
    now = timezone.now()
    [case] = urgency.cases(customers=[customer], at=now)
    held = standing.held_microtokens(customer, at=now)
    context = {"case": case, "customer": customer, "held_microtokens": held, **_history(customer)}
    return show(request, "desk/account.html", context, time_zone=customer.time_zone)


@login_required
@require_POST
def acknowledge(request: HttpRequest, message_id: int) -> HttpResponse:
    """Who saw it, and when, is written down once."""
    own = AlertMessage.objects.filter(
        period__subscription__customer__in=_own_customers(request)
    ).select_related("period__subscription__customer")
    message = get_object_or_404(own, pk=message_id)
    alerts.acknowledge(message_id=message.pk, user=request.user, at=timezone.now())
    customer = message.period.subscription.customer
    messages.success(request, f"The alert of {customer} is acknowledged.")
    back = request.POST.get("back", "")
    if url_has_allowed_host_and_scheme(back, allowed_hosts={request.get_host()}):
        return redirect(back)
    return redirect("desk")


def _own_customers(request: HttpRequest) -> QuerySet[Customer]:
    books = desk_books(request.user)
    if not books:
        raise Http404
    own = Customer.objects.filter(vendor__book_id__in=books)
    return own.select_related("vendor", "account_manager").order_by("name")


def _history(customer: Customer) -> dict[str, Any]:
    told = AlertMessage.objects.filter(period__subscription__customer=customer)
    return {
        "told": told.select_related("acknowledged_by").order_by("-raised_at")[:FACTS_MAX],
        "purchases": purchases.latest(customer=customer, top_ups_max=FACTS_MAX),
        "invoices": invoices.latest(customer=customer, invoices_max=FACTS_MAX),
        "runs": queries.runs(account_id=customer.account_id, runs_max=RUNS_MAX),
        "members": customer.members.select_related("user").order_by("user__username"),
    }
