"""Dunning: an invoice that is not paid is charged again, asked for, and in the end it restricts.

    failed or overdue ─▶ again, on the vendor's days ─▶ last notice ─▶ restricted     ─▶ paid
    (past due)                                          (grace)       (no new holds)    (at once)

The clock is ours; Stripe charges nothing by itself. It starts with the first charge that failed, or
with the day until which an invoice was to be paid, and the vendor says on which days after it a
card is charged again. A card that the bank will not accept again, or wants confirmed, is not: its
holder is asked for another, or to pay on the invoice's page, and another card is tried at once.
Each failure and each step tells the payers and the account manager, once. After the last day and
the grace the plan decides: no new holds, or nothing. Where a customer stands follows from the
facts; a payment lifts what its want caused in the transaction that writes it down.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from django.db import transaction
from django.db.models import DateTimeField, Exists, OuterRef, Q, QuerySet, Value
from django.db.models.functions import Greatest
from djmoney.money import Money

from billing import declines, money, notices, payment_methods, periods, sweeps
from billing.declines import Decline
from billing.models import (
    Customer,
    DunningStep,
    Invoice,
    InvoiceGivenUp,
    InvoicePaymentFailure,
    PlanVersion,
    Restriction,
    StripeCall,
)
from billing.stripe import calls
from ledger import overdue

INVOICES_PER_SWEEP_MAX: Final = 500
LAST_NOTICE_BEFORE: Final = timedelta(days=1)
Kind = DunningStep.Kind


class State(StrEnum):
    """Where a customer stands with its payments."""

    CURRENT = "current"
    PAST_DUE = "past_due"
    RESTRICTED = "restricted"


@dataclass(frozen=True, kw_only=True)
class Case:
    """An invoice that is past due: since when, what comes next, and where it can be paid."""

    invoice: Invoice
    number: str
    total: Money
    pay_url: str
    began_at: datetime
    next_at: datetime | None  # when the card is charged, or asked for, again
    restricts_at: datetime | None  # None: the plan lets it be
    restricted_at: datetime | None
    decline: Decline | None  # why the card was refused last; None: it is not charged to a card
    message: str
    card_may_do: bool


def advance(*, at: datetime) -> int:
    """Take the steps that are due on every invoice that is past due; how many were taken.

    Several workers may do this at once: the invoice's row is locked, and each step taken once.
    """
    due = _past_due(at).order_by("id").values_list("id", flat=True)

    def advance_one(invoice_id: uuid.UUID) -> int:
        return _advance(invoice_id, at=at)

    return sweeps.each(
        list(due), advance_one, what="dunning of an invoice", items_max=INVOICES_PER_SWEEP_MAX
    )


def settle(*, invoice: Invoice, at: datetime) -> None:
    """The invoice is paid, or not owed any more: what it restricted is lifted at once.

    To be called in the transaction that writes that down.
    """
    open_ = Restriction.objects.filter(invoice=invoice, lifted_at__isnull=True)
    if not open_.exists():
        return
    customer = Customer.objects.select_for_update(no_key=True).get(pk=invoice.customer_id)
    # Stripe knew of it before we restricted: then it was lifted as soon as it was there.
    open_.update(lifted_at=Greatest("restricted_at", Value(at, output_field=DateTimeField())))
    if not customer.restrictions.filter(lifted_at__isnull=True).exists():
        overdue.allow_holds(account_id=customer.account_id)
        notices.tell(
            customer=customer,
            about=f"restriction_lifted:{invoice.pk}",
            subject=f"{customer}: all is well again",
            body="Thank you. New runs can be reserved again from this moment on.\n",
            at=at,
        )


def tell_failure(*, failure: InvoicePaymentFailure, at: datetime) -> None:
    """A charge of an issued invoice failed: tell the payers, once for each failure."""
    invoice = failure.invoice
    case = _case(invoice)
    customer = invoice.customer
    lines = [
        f"Invoice {case.number} over {money.text(case.total)} could not be charged."
        f" The answer was: {failure.message}",
        _what_to_do(case, customer),
        *_what_comes(case, customer),
    ]
    notices.tell(
        customer=customer,
        about=f"invoice_payment_failure:{failure.pk}",
        subject=f"{customer}: invoice {case.number} could not be charged",
        body="\n\n".join(lines) + "\n",
        at=at,
    )


def cases(*, customers: Sequence[Customer], at: datetime) -> dict[int, list[Case]]:
    """The invoices of these customers that are past due, the oldest first, by customer."""
    rows = _past_due(at).filter(customer__in=customers).order_by("built_at")
    found: dict[int, list[Case]] = {}
    for invoice in rows:
        found.setdefault(invoice.customer_id, []).append(_case(invoice))
    return found


def state(*, cases: Sequence[Case]) -> State:
    """Where the customer of these cases stands."""
    if any(case.restricted_at is not None for case in cases):
        return State.RESTRICTED
    return State.PAST_DUE if cases else State.CURRENT


def outlook(*, case: Case) -> str:
    """What comes of it, in a sentence or two, for whoever looks after the customer."""
    return " ".join(_what_comes(case, case.invoice.customer))


def _past_due(at: datetime) -> QuerySet[Invoice]:
    """Issued, neither paid nor void nor written off; a charge has failed or its day has passed.

    What is written off is not asked for again, but restricts for as long as it is owed.
    """
    failed = InvoicePaymentFailure.objects.filter(invoice=OuterRef("pk"))
    void = InvoiceGivenUp.objects.filter(invoice=OuterRef("pk"), kind=InvoiceGivenUp.Kind.VOID)
    given_up = InvoiceGivenUp.objects.filter(invoice=OuterRef("pk"))
    restricted = Restriction.objects.filter(invoice=OuterRef("pk"), lifted_at__isnull=True)
    rows = Invoice.objects.filter(
        ~Exists(void),
        ~Exists(given_up) | Exists(restricted),
        Q(finalization__due_at__lt=at) | Q(finalization__due_at=None) & Exists(failed),
        finalization__isnull=False,
        payment__isnull=True,
    )
    related = rows.select_related(
        "customer__vendor", "finalization", "period__subscription__plan_version", "restriction"
    )
    return related.prefetch_related("payment_failures", "dunning_steps")


def _advance(invoice_id: uuid.UUID, *, at: datetime) -> int:
    with transaction.atomic():
        Invoice.objects.select_for_update(no_key=True).get(pk=invoice_id)
        invoice = _past_due(at).filter(pk=invoice_id, restriction__isnull=True).first()
        if invoice is None or invoice.given_up.exists():
            return 0
        case = _case(invoice)
        return (
            _step_overdue(case, at=at)
            + _step_again(case, at=at)
            + _step_new_card(case, at=at)
            + _step_last_notice(case, at=at)
            + _step_restrict(case, at=at)
        )


def _step_overdue(case: Case, *, at: datetime) -> int:
    """An invoice that was to be paid until a day has no failure that would tell of it."""
    if case.decline is not None or not _take(case, Kind.OVERDUE, 0, charges=False, at=at):
        return 0
    _ask(case, f"dunning_overdue:{case.invoice.pk}", "is overdue", at=at)
    return 1


def _step_again(case: Case, *, at: datetime) -> int:
    """The latest of the schedule's days that have come: whoever was away does not charge twice."""
    days = case.invoice.customer.vendor.dunning_retry_days
    come = [day for day in days if case.began_at + timedelta(days=day) <= at]
    if not come:
        return 0
    charges = _can_charge(case)
    if not _take(case, Kind.AGAIN, come[-1], charges=charges, at=at):
        return 0
    if charges:
        _charge(case, at=at)
    else:
        _ask(case, f"dunning_again:{case.invoice.pk}:{come[-1]}", "is still not paid", at=at)
    return 1


def _step_new_card(case: Case, *, at: datetime) -> int:
    """A card that was chosen since the last refusal is tried at once, once."""
    choice = case.invoice.customer.method_choices.order_by("-id").first()
    if case.decline is None or choice is None or choice.chosen_at <= _last(case).failed_at:
        return 0
    if not _can_charge(case) or case.invoice.dunning_steps.filter(
        charges=True, taken_at__gte=choice.chosen_at
    ):
        return 0
    if not _take(case, Kind.NEW_CARD, choice.pk, charges=True, at=at):
        return 0
    _charge(case, at=at)
    return 1


def _step_last_notice(case: Case, *, at: datetime) -> int:
    ends_at = case.restricts_at
    if ends_at is None or at < ends_at - LAST_NOTICE_BEFORE:
        return 0
    if not _take(case, Kind.LAST_NOTICE, 0, charges=False, at=at):
        return 0
    _ask(case, f"dunning_last_notice:{case.invoice.pk}", "is still not paid: last notice", at=at)
    return 1


def _step_restrict(case: Case, *, at: datetime) -> int:
    """Never without a last notice a day before, even if nobody looked for a week."""
    told = case.invoice.dunning_steps.filter(kind=Kind.LAST_NOTICE).first()
    if case.restricts_at is None or at < case.restricts_at or told is None:
        return 0
    if at < told.taken_at + LAST_NOTICE_BEFORE:
        return 0
    customer = Customer.objects.select_for_update(no_key=True).get(pk=case.invoice.customer_id)
    Restriction.objects.create(invoice=case.invoice, customer=customer, restricted_at=at)
    overdue.refuse_holds(account_id=customer.account_id, at=at)
    _ask(case, f"dunning_restricted:{case.invoice.pk}", "is not paid: no new runs", at=at)
    return 1


def _take(case: Case, kind: str, number: int, *, charges: bool, at: datetime) -> bool:
    """Whether the step was still to be taken."""
    _, is_new = DunningStep.objects.get_or_create(
        invoice=case.invoice,
        kind=kind,
        number=number,
        defaults={"charges": charges, "taken_at": at},
    )
    return is_new


def _can_charge(case: Case) -> bool:
    """Whether a charge may do, and none is under way."""
    under_way = StripeCall.objects.filter(
        operation=calls.INVOICE_PAY,
        aggregate_id=case.invoice.pk,
        done_at__isnull=True,
        refused_at__isnull=True,
    )
    return case.card_may_do and not under_way.exists()


def _charge(case: Case, *, at: datetime) -> None:
    calls.write_invoice_pay(invoice=case.invoice, at=at)


def _ask(case: Case, about: str, what: str, *, at: datetime) -> None:
    customer = case.invoice.customer
    lines = [
        f"Invoice {case.number} over {money.text(case.total)} {what}.",
        _what_to_do(case, customer),
        *_what_comes(case, customer),
    ]
    notices.tell(
        customer=customer,
        about=about,
        subject=f"{customer}: invoice {case.number} {what}",
        body="\n\n".join(lines) + "\n",
        at=at,
    )


def _what_to_do(case: Case, customer: Customer) -> str:
    pay = f"Pay it here: {case.pay_url}"
    cards = f"give another card: {notices.page(customer, 'payment/')}"
    if case.decline is Decline.AUTHENTICATION:
        return f"Your bank wants you to confirm this payment yourself. {pay}\nOr {cards}"
    if case.decline is Decline.HARD:
        return f"Your bank does not accept this card any more. Please {cards}\n{pay}"
    return pay if case.decline is None else f"{pay}\nOr {cards}"


def _what_comes(case: Case, customer: Customer) -> list[str]:
    found = []
    if case.next_at is not None and case.card_may_do:
        day = periods.date_text(case.next_at, customer.time_zone)
        found.append(f"The card is charged again on {day}.")
    if case.restricted_at is not None:
        found.append("No new runs can be reserved until it is paid. What was done is not lost.")
    elif case.restricts_at is not None:
        day = periods.date_text(case.restricts_at, customer.time_zone)
        found.append(f"If it is not paid by {day}, no new runs can be reserved until it is.")
    return found


def _case(invoice: Invoice) -> Case:
    vendor, finalization = invoice.customer.vendor, invoice.finalization
    failures = sorted(invoice.payment_failures.all(), key=lambda one: (one.failed_at, one.pk))
    began_at = finalization.due_at or (failures[0].failed_at if failures else invoice.built_at)
    last = failures[-1] if failures else None
    taken = [one.number for one in invoice.dunning_steps.all() if one.kind == Kind.AGAIN]
    left = [day for day in vendor.dunning_retry_days if day > max(taken, default=0)]
    ends_at = began_at + timedelta(
        days=max(vendor.dunning_retry_days, default=0) + vendor.dunning_grace_days
    )
    policy = invoice.period.subscription.plan_version.dunning_policy
    restriction = getattr(invoice, "restriction", None)
    return Case(
        invoice=invoice,
        number=finalization.number,
        total=finalization.total,
        pay_url=finalization.hosted_url,
        began_at=began_at,
        next_at=began_at + timedelta(days=left[0]) if left else None,
        restricts_at=ends_at if policy == PlanVersion.DunningPolicy.BLOCK else None,
        restricted_at=restriction.restricted_at
        if restriction is not None and restriction.lifted_at is None
        else None,
        decline=None
        if finalization.due_at is not None or last is None
        else declines.kind(code=last.code, decline_code=last.decline_code),
        message="" if last is None else last.message,
        card_may_do=finalization.due_at is None and _card_may_do(invoice.customer, last),
    )


def _card_may_do(customer: Customer, last: InvoicePaymentFailure | None) -> bool:
    """Not without a card, nor with one that was refused for good and not replaced."""
    if payment_methods.charged(customer=customer) is None:
        return False
    if last is None:
        return True
    if declines.kind(code=last.code, decline_code=last.decline_code) is Decline.SOFT:
        return True
    chosen_at = payment_methods.chosen_at(customer=customer)
    return chosen_at is not None and chosen_at > last.failed_at


def _last(case: Case) -> InvoicePaymentFailure:
    return case.invoice.payment_failures.order_by("-failed_at", "-pk")[0]
