"""What is wrong with payments: disputes that are open, refunds that failed, invoices not paid."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.urls import reverse

from billing import disputes, dunning, money, periods, refunds, reversals
from billing.models import Customer, Dispute, Refund


@dataclass(frozen=True, kw_only=True)
class Concern:
    """In words, with the page in the admin where it is looked into."""

    customer_id: int
    what: str
    words: str
    url: str


def of_customers(*, customers: Sequence[Customer], at: datetime) -> dict[int, list[Concern]]:
    """By customer."""
    found: dict[int, list[Concern]] = {}
    for concern in (
        *_unpaid(customers, at),
        *_disputes(customers),
        *_failed_refunds(customers),
    ):
        found.setdefault(concern.customer_id, []).append(concern)
    return found


def _unpaid(customers: Sequence[Customer], at: datetime) -> Iterable[Concern]:
    """What restricts its customer first."""
    found = dunning.cases(customers=customers, at=at)
    all_cases = [case for rows in found.values() for case in rows]
    for case in sorted(all_cases, key=lambda one: one.restricted_at is None):
        customer = case.invoice.customer
        since = periods.date_text(case.began_at, customer.time_zone)
        yield Concern(
            customer_id=customer.pk,
            what=f"Invoice {case.number} over {money.text(case.total)} is past due since {since}.",
            words=f"{case.message} {dunning.outlook(case=case)}".strip(),
            url=reverse("admin:billing_invoice_change", args=[case.invoice.pk]),
        )


def _disputes(customers: Sequence[Customer]) -> Iterable[Concern]:
    open_ones = disputes.open_ones().select_related("top_up", "invoice")
    own = open_ones.filter(top_up__customer__in=customers) | open_ones.filter(
        invoice__customer__in=customers
    )
    for dispute in own.prefetch_related("statuses").order_by("-opened_at"):
        about = dispute.top_up or dispute.invoice
        assert about is not None
        yield Concern(
            customer_id=about.customer_id,
            what=_said(dispute),
            words="Answer the bank in Stripe's Dashboard, with what shows that it was used.",
            url=reverse(f"admin:billing_{about._meta.model_name}_change", args=[about.pk]),
        )


def _said(dispute: Dispute) -> str:
    amount = money.text(dispute.amount)
    if reversals.status_of(dispute).startswith(reversals.INQUIRY):
        return f"The bank asks about a payment of {amount}."
    tokens = "; its tokens are frozen" if dispute.top_up_id else ""
    return f"A payment of {amount} is disputed{tokens}."


def _failed_refunds(customers: Sequence[Customer]) -> Iterable[Concern]:
    failed = refunds.failed().filter(top_up__customer__in=customers)
    for refund in failed.select_related("top_up", "failure").order_by("-failure__failed_at"):
        yield Concern(
            customer_id=refund.top_up.customer_id,
            what=f"A refund of {money.text(refund.amount)} failed: {_why(refund)}.",
            words="The customer has the tokens again. Refund it anew, or pay it back otherwise.",
            url=reverse("admin:billing_topup_change", args=[refund.top_up_id]),
        )


def _why(refund: Refund) -> str:
    said = refund.failure.message.replace("_", " ")
    return refund.failure.get_kind_display() + (f" ({said})" if said else "")
