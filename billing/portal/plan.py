"""The portal's page about the plan: what it says, and what the next invoice will say."""

from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from billing import explain, previews, standing, terms
from billing.models import Customer, Subscription
from billing.pages import show
from billing.portal.pages import shared
from billing.portal.people import of_customer
from ledger import catalog as ledger_catalog


@of_customer
def plan(request: HttpRequest, *, customer: Customer) -> HttpResponse:
    now = timezone.now()
    stands = standing.of_customer(customer=customer, at=now)
    subscription = None if stands.period is None else stands.period.subscription
    context = {
        **shared(request, customer, tab="plan"),
        "version": None if subscription is None else subscription.plan_version,
        "sentences": () if subscription is None else _sentences(subscription),
        "next": previews.next_invoice(customer=customer, at=now),
    }
    return show(request, "portal/plan.html", context, time_zone=customer.time_zone)


def _sentences(subscription: Subscription) -> tuple[str, ...]:
    billed_by = terms.of(subscription=subscription)
    unit = ledger_catalog.unit(unit_id=billed_by.unit_id)
    return explain.explain(terms=billed_by, unit=unit).sentences
