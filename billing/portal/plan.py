"""The portal's page about the plan: what it says, and what the next invoice will say."""

from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from billing import catalog, explain, previews, standing
from billing.models import Customer, PlanVersion
from billing.pages import show
from billing.portal.pages import shared
from billing.portal.people import of_customer
from ledger import catalog as ledger_catalog


@of_customer
def plan(request: HttpRequest, *, customer: Customer) -> HttpResponse:
    now = timezone.now()
    stands = standing.of_customer(customer=customer, at=now)
    version = None if stands.period is None else stands.period.subscription.plan_version
    context = {
        **shared(request, customer, tab="plan"),
        "version": version,
        "sentences": () if version is None else _sentences(version),
        "next": previews.next_invoice(customer=customer, at=now),
    }
    return show(request, "portal/plan.html", context, time_zone=customer.time_zone)


def _sentences(version: PlanVersion) -> tuple[str, ...]:
    unit = ledger_catalog.unit(unit_id=version.unit_id)
    tiers = catalog.tiers(version=version)
    return explain.explain(version=version, tiers=tiers, unit=unit).sentences
