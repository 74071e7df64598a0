"""Who may be put on a plan: everybody, or, of a pilot, the cohorts that it is offered to."""

from collections.abc import Iterable
from datetime import datetime

from django.db import transaction

from billing import faults, names
from billing.errors import NotForSale
from billing.models import Cohort, CohortMember, CohortOffer, Customer, Plan, PlanVersion


def create_cohort(*, vendor_id: int, name: str) -> Cohort:
    """A cohort of nobody yet; the one that has this name, if there is one. Raises InvalidInput."""
    if not name.strip() or not names.is_plain(name):
        faults.refuse([faults.fault("name", "plain", "must be one line, and not empty")])
    cohort, _ = Cohort.objects.get_or_create(vendor_id=vendor_id, name=name)
    return cohort


def add_members(*, cohort_id: int, customers: Iterable[Customer]) -> None:
    """Let customers of the cohort's vendor into it. Again: changes nothing. Raises InvalidInput."""
    with transaction.atomic():
        cohort = Cohort.objects.get(pk=cohort_id)
        for customer in customers:
            if customer.vendor_id != cohort.vendor_id:
                message = f"{customer} is a customer of another vendor"
                faults.refuse([faults.fault("customers", "vendor", message)])
            CohortMember.objects.get_or_create(cohort=cohort, customer=customer)


def offer(
    *, cohort_id: int, plan_id: int, from_at: datetime, until_at: datetime | None = None
) -> CohortOffer:
    """Offer a plan to a cohort, and from then on to no one else; a new offer takes the place of
    the cohort's old one. Raises InvalidInput."""
    cohort = Cohort.objects.get(pk=cohort_id)
    plan = Plan.objects.get(pk=plan_id)
    if plan.vendor_id != cohort.vendor_id:
        faults.refuse([faults.fault("plan", "vendor", "is another vendor's")])
    if until_at is not None and until_at <= from_at:
        faults.refuse([faults.fault("until_at", "ascending", "must come after the beginning")])
    offered, _ = CohortOffer.objects.update_or_create(
        cohort=cohort, plan=plan, defaults={"from_at": from_at, "until_at": until_at}
    )
    return offered


def require_offered(*, customer: Customer, version: PlanVersion, at: datetime) -> None:
    """Raises NotForSale if the version's plan is a pilot that the customer is not offered now."""
    offers = list(CohortOffer.objects.filter(plan_id=version.plan_id).select_related("cohort"))
    if not offers:
        return
    own = set(CohortMember.objects.filter(customer=customer).values_list("cohort_id", flat=True))
    mine = [one for one in offers if one.cohort_id in own]
    if any(one.from_at <= at and (one.until_at is None or at < one.until_at) for one in mine):
        return
    named = ", ".join(sorted(one.cohort.name for one in mine or offers))
    reason = f"it is offered to {named} only, and {customer} is not among them"
    if mine:
        reason = f"its offer to {named} has not begun, or is over"
    raise NotForSale(what=str(version), reason=reason)
