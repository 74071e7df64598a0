"""Credits: money that a customer has coming, set against what it is invoiced next.

An invoice never has a negative line. A credit makes lines smaller, the oldest credit first and
line after line, until it is used up; what is left waits for the next invoice. What an earlier
invoice was too small to be charged for is carried over whole: credits leave it alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import QuerySet, Sum
from djmoney.money import Money

from billing.errors import KeyReused
from billing.models import Credit, CreditUse, Customer, InvoiceLine, Period


@dataclass(frozen=True, kw_only=True)
class Set:
    """So much of a credit set against the line at a position."""

    credit: Credit
    position: int
    amount: Money


def record(
    *,
    customer: Customer,
    amount: Money,
    reason: str,
    description: str,
    period: Period | None = None,
    idempotency_key: str,
    at: datetime,
) -> Credit:
    """Give a customer a credit of a payable amount, once. Raises KeyReused."""
    assert amount.amount > 0
    assert amount.currency.code == customer.currency
    credit, is_new = Credit.objects.get_or_create(
        key=idempotency_key,
        defaults={
            "customer": customer,
            "amount": amount,
            "reason": reason,
            "description": description,
            "period": period,
            "recorded_at": at,
        },
    )
    if not is_new and (credit.customer_id, credit.amount) != (customer.pk, amount):
        raise KeyReused(idempotency_key=idempotency_key)
    return credit


def left(*, customer: Customer) -> Money:
    """What of all the customer's credits is not used up yet."""
    zero = Money(0, customer.currency)
    return sum((_left(credit) for credit in _of(customer)), start=zero)


def set_against(
    *, customer: Customer, amounts: Sequence[Money], to_come: Sequence[Credit] = ()
) -> list[Set]:
    """How the customer's credits, and those to come, make these amounts smaller. Writes nothing."""
    found: list[Set] = []
    due = list(amounts)
    position = 0
    for credit in [*_of(customer).prefetch_related("uses"), *to_come]:
        rest = _left(credit)
        while rest.amount and position < len(due):
            part = min(rest, due[position])
            if part.amount:
                found.append(Set(credit=credit, position=position, amount=part))
            rest -= part
            due[position] -= part
            if not due[position].amount:
                position += 1
    return found


def write_uses(*, sets: Sequence[Set], lines: Sequence[InvoiceLine]) -> None:
    """Write down what was used up by lines that now stand."""
    CreditUse.objects.bulk_create(
        CreditUse(credit=one.credit, line=lines[one.position], amount=one.amount) for one in sets
    )


def given_for(*, period: Period) -> Money:
    """What was credited of a period's price. (Of its overage: see billing.overage.)"""
    of_price = Credit.objects.filter(period_id=period.pk).exclude(reason=Credit.Reason.OVERAGE)
    given = of_price.aggregate(given=Sum("amount"))["given"]
    return Money(given or 0, period.subscription.customer.currency)


def _of(customer: Customer) -> QuerySet[Credit]:
    return Credit.objects.filter(customer=customer).order_by("recorded_at", "id")


def _left(credit: Credit) -> Money:
    if credit.pk is None:
        return credit.amount  # it is to come
    zero = Money(0, credit.amount.currency)
    return credit.amount - sum((use.amount for use in credit.uses.all()), start=zero)
