"""Where customers stand now: what they can spend, what they have used, what expires. Reads only.

The portal shows it to the customer, the desk to the account manager: the same numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from djmoney.money import Money

from billing import allotments, money
from billing.models import Customer, Period
from ledger import holds, queries
from ledger.queries import Balance, LotNow
from ledger.value import prepaid_slice_micros

EXPIRES_SOON: Final = timedelta(days=30)


@dataclass(frozen=True, kw_only=True)
class Expiring:
    """Tokens that nobody can use after `at`, unless they are used before."""

    at: datetime
    microtokens: int
    worth: Money | None  # None: they were free

    def with_more(self, other: "Expiring") -> "Expiring":
        """The two together; they expire at one instant, and an account has one currency."""
        worths = [worth for worth in (self.worth, other.worth) if worth is not None]
        worth = sum(worths[1:], start=worths[0]) if worths else None
        microtokens = self.microtokens + other.microtokens
        return Expiring(at=self.at, microtokens=microtokens, worth=worth)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One customer at one instant. Without a period there is no allotment to speak of."""

    customer: Customer
    at: datetime
    period: Period | None
    allotment_lot_ids: frozenset[int]
    balance: Balance
    lots: tuple[LotNow, ...]

    @property
    def allotment(self) -> list[LotNow]:
        """The lots that the plan granted for the period that runs: more than one if it changed."""
        return [lot for lot in self.lots if lot.id in self.allotment_lot_ids]

    @property
    def used_microtokens(self) -> int:
        return sum(lot.out_microtokens for lot in self.allotment)

    @property
    def granted_microtokens(self) -> int:
        return sum(lot.granted_microtokens for lot in self.allotment)

    @property
    def used_percent(self) -> int:
        """Of the allotment, rounded down: 100 is never shown before the last token is used."""
        granted = self.granted_microtokens
        return self.used_microtokens * 100 // granted if granted else 0

    @property
    def spendable(self) -> list[LotNow]:
        """Prepaid lots with something left that serve runs now or later, in the order of use."""
        return [
            lot
            for lot in self.lots
            if lot.kind == "prepaid"
            and lot.remaining_microtokens > 0
            and (lot.expires_at is None or lot.expires_at > self.at)
        ]

    @property
    def expiring(self) -> list[Expiring]:
        """What expires soon, soonest first; what the plan will roll over is not among it.

        Lots that expire at one instant are one line: whoever reads it wants to know the loss.
        """
        until = self.at + EXPIRES_SOON
        lots = [
            lot for lot in self.spendable if lot.expires_at is not None and lot.expires_at <= until
        ]
        found: dict[datetime, Expiring] = {}
        for lot in lots:
            if (expiring := _expiring(lot)) is not None:
                known = found.get(expiring.at)
                found[expiring.at] = expiring if known is None else known.with_more(expiring)
        return sorted(found.values(), key=lambda expiring: expiring.at)


def of_customers(*, customers: Sequence[Customer], at: datetime) -> list[Standing]:
    """The standing of each, in their order."""
    account_ids = [customer.account_id for customer in customers]
    all_lots = queries.lots(account_ids=account_ids)
    balances = queries.balances_of(lots=all_lots, account_ids=account_ids, at=at)
    lots: dict[int, list[LotNow]] = {account_id: [] for account_id in account_ids}
    for lot in all_lots:
        lots[lot.account_id].append(lot)
    periods = _running_periods(customers, at)
    allotments = {pk: _allotment_lot_ids(period) for pk, period in periods.items()}
    return [
        Standing(
            customer=customer,
            at=at,
            period=periods.get(customer.pk),
            allotment_lot_ids=allotments.get(customer.pk, frozenset()),
            balance=balances[customer.account_id],
            lots=tuple(lots[customer.account_id]),
        )
        for customer in customers
    ]


def of_customer(*, customer: Customer, at: datetime) -> Standing:
    [standing] = of_customers(customers=[customer], at=at)
    return standing


def _running_periods(customers: Sequence[Customer], at: datetime) -> dict[int, Period]:
    running = Period.objects.filter(
        subscription__customer__in=customers, starts_at__lte=at, ends_at__gt=at
    )
    return {
        period.subscription.customer_id: period
        for period in running.select_related(
            "subscription__plan_version__plan", "paid_allotment"
        ).prefetch_related("changes")
    }


def _allotment_lot_ids(period: Period) -> frozenset[int]:
    granted = [allotments.lot_of(period), *(one.allotment_lot_id for one in period.changes.all())]
    return frozenset(lot_id for lot_id in granted if lot_id is not None)


def _expiring(lot: LotNow) -> Expiring | None:
    microtokens = lot.remaining_microtokens - lot.rollover_microtokens_max
    if microtokens <= 0 or lot.expires_at is None:
        return None
    micros = prepaid_slice_micros(
        price_micros=lot.price_micros,
        granted_microtokens=lot.granted_microtokens,
        out_before=lot.granted_microtokens - microtokens,
        out_after=lot.granted_microtokens,
    )
    worth = money.rounded(micros, lot.currency) if micros else None
    return Expiring(at=lot.expires_at, microtokens=microtokens, worth=worth)


def held_microtokens(customer: Customer, *, at: datetime) -> int:
    """What is set aside, of all that is available, for runs that are under way."""
    account_id = customer.account_id
    return holds.available(account_ids=[account_id], at=at)[account_id].held_microtokens
