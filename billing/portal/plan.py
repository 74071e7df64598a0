"""The portal's page about the plan: what it says, and what the next invoice will say."""

from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from billing import changes, explain, previews, standing, subscriptions, terms
from billing.models import Customer, Subscription
from billing.pages import show
from billing.portal.pages import shared
from billing.portal.people import of_customer
from ledger import catalog as ledger_catalog


@of_customer
def plan(request: HttpRequest, *, customer: Customer) -> HttpResponse:
    now = timezone.now()
    stands = standing.of_customer(customer=customer, at=now)
    last = customer.subscriptions.order_by("-subscribed_at", "-begins_at").first()
    on = None if stands.period is None else changes.applying(period=stands.period)
    if on is None and last is not None and last.trial_starts_at is not None:
        on = last if last.trial_starts_at <= now < last.starts_at else None
    ends = last is not None and subscriptions.coming_period(subscription=last) is None
    context = {
        **shared(request, customer, tab="plan"),
        "version": None if on is None else on.plan_version,
        "trial_ends_at": on.starts_at if on is not None and stands.period is None else None,
        "ends_at": subscriptions.runs_until(subscription=last) if ends and last else None,
        "pending": None if on is None else changes.pending(subscription=on, at=now),
        "sentences": () if on is None else _sentences(on),
        "next": previews.next_invoice(customer=customer, at=now),
    }
    return show(request, "portal/plan.html", context, time_zone=customer.time_zone)


def _sentences(subscription: Subscription) -> tuple[str, ...]:
    billed_by = terms.of(subscription=subscription)
    unit = ledger_catalog.unit(unit_id=billed_by.unit_id)
    return explain.explain(terms=billed_by, unit=unit).sentences
