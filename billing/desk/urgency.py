"""Which account needs its account manager first, and why.

Alerts that nobody has acknowledged come first, then payments that are disputed and refunds that
failed, then accounts whose runs wait for a price (they have
less than is shown: those runs are not debited yet), then those that owe tokens, then those that
have used most of their allotment, then those that are about to lose most.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from djmoney.money import Money

from billing import standing
from billing.desk import concerns
from billing.desk.concerns import Concern
from billing.models import AlertMessage, Customer
from billing.standing import Expiring, Standing
from ledger import parking
from ledger.parking import Wait


@dataclass(frozen=True, kw_only=True)
class Case:
    """An account on the desk."""

    standing: Standing
    alerts: tuple[AlertMessage, ...]  # to acknowledge, the latest first
    waits: tuple[Wait, ...]  # why its runs wait for a price, the longest wait first
    concerns: tuple[Concern, ...]  # of its payments

    @property
    def customer(self) -> Customer:
        return self.standing.customer

    @property
    def expiring(self) -> Expiring | None:
        """What is lost next."""
        return next(iter(self.standing.expiring), None)

    @property
    def level(self) -> str:
        """How it is marked: alarm, warning or calm."""
        if self.alerts or self.waits or self.concerns or self.standing.balance.debt_microtokens:
            return "alarm"
        return "warning" if self.standing.used_percent >= 70 else "calm"


def cases(*, customers: Sequence[Customer], at: datetime) -> list[Case]:
    """All these accounts, the most urgent first."""
    alerts = _open_alerts(customers)
    waits = parking.waits_of_accounts(account_ids=[one.account_id for one in customers])
    payments = concerns.of_customers(customers=customers, at=at)
    found = [
        Case(
            standing=stands,
            alerts=tuple(alerts.get(stands.customer.pk, ())),
            waits=tuple(waits.get(stands.customer.account_id, ())),
            concerns=tuple(payments.get(stands.customer.pk, ())),
        )
        for stands in standing.of_customers(customers=customers, at=at)
    ]
    return sorted(found, key=_order)


def _order(case: Case) -> tuple[bool, bool, bool, bool, int, int, str]:
    return (
        not case.alerts,
        not case.concerns,
        not case.waits,
        not case.standing.balance.debt_microtokens,
        -case.standing.used_percent,
        -sum(_amount(expiring.worth) for expiring in case.standing.expiring),
        case.customer.name,
    )


def _amount(worth: Money | None) -> int:
    return 0 if worth is None else int(worth.amount)


def _open_alerts(customers: Iterable[Customer]) -> dict[int, list[AlertMessage]]:
    messages = AlertMessage.objects.filter(
        period__subscription__customer__in=customers, acknowledged_at__isnull=True
    )
    found: dict[int, list[AlertMessage]] = {}
    for message in messages.select_related("period__subscription").order_by("-raised_at", "-id"):
        found.setdefault(message.period.subscription.customer_id, []).append(message)
    return found
