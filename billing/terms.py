"""The terms of a plan's version in one currency: everything that a subscription is billed by.

A version sells in one or more currencies, at a price of its own in each: nothing is converted. Who
grants, invoices, explains or simulates reads `Terms`, and never the rows that they come from.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from djmoney.money import Money

from billing.errors import NotForSale
from billing.models import PlanVersion, Subscription
from ledger.value import Tier


@dataclass(frozen=True, kw_only=True)
class Price:
    """What a version costs in one currency. The defaults are nothing."""

    currency: str
    platform_fee: Decimal = Decimal(0)
    allotment_price: Decimal = Decimal(0)
    commitment: Decimal = Decimal(0)
    overage_tiers: Sequence[Tier] = ()


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a subscription is billed by; each amount is for one term, in `currency`."""

    version_id: int | None  # None: a draft that nobody has saved
    unit_id: int
    rate_card_id: int
    currency: str
    term_months: int
    platform_fee: Money
    allotment_microtokens: int
    allotment_price: Money
    commitment: Money
    overage_policy: str
    tiers: tuple[Tier, ...]
    overage_cap_microtokens: int | None
    rollover_basis_points: int
    grace: timedelta
    alert_thresholds: tuple[int, ...]

    @property
    def bills_overage(self) -> bool:
        return self.overage_policy == PlanVersion.OveragePolicy.BILL


def of(*, subscription: Subscription) -> Terms:
    """The terms of a subscription. Its customer's currency picks the price."""
    return of_version(version=subscription.plan_version, currency=subscription.customer.currency)


def of_version(*, version: PlanVersion, currency: str) -> Terms:
    """The terms of a version in a currency. Raises NotForSale if it has no price in it."""
    for price in prices(version=version):
        if price.currency == currency:
            return put_together(version=version, price=price)
    raise NotForSale(what=str(version), reason=f"it is not sold in {currency}")


def put_together(*, version: PlanVersion, price: Price) -> Terms:
    """The terms that a version, saved or not, has at a price."""

    def amount(number: Decimal) -> Money:
        return Money(number, price.currency)

    return Terms(
        version_id=version.pk,
        unit_id=version.unit_id,
        rate_card_id=version.rate_card_id,
        currency=price.currency,
        term_months=version.term_months,
        platform_fee=amount(price.platform_fee),
        allotment_microtokens=version.allotment_microtokens,
        allotment_price=amount(price.allotment_price),
        commitment=amount(price.commitment),
        overage_policy=version.overage_policy,
        tiers=tuple(in_order(price.overage_tiers)),
        overage_cap_microtokens=version.overage_cap_microtokens,
        rollover_basis_points=version.rollover_basis_points,
        grace=version.grace,
        alert_thresholds=tuple(version.alert_thresholds),
    )


def prices(*, version: PlanVersion) -> list[Price]:
    """What a saved version costs, in each currency that it is sold in."""
    tiers: dict[str, list[Tier]] = {}
    for tier in version.tiers.all():
        tiers.setdefault(tier.currency, []).append(
            Tier(up_to_microtokens=tier.up_to_microtokens, micros_per_token=tier.micros_per_token)
        )
    return [
        Price(
            currency=row.currency,
            platform_fee=row.platform_fee.amount,
            allotment_price=row.allotment_price.amount,
            commitment=row.commitment.amount,
            overage_tiers=in_order(tiers.get(row.currency, ())),
        )
        for row in sorted(version.prices.all(), key=lambda row: row.pk)
    ]


def in_order(unordered: Iterable[Tier]) -> list[Tier]:
    """Smallest bound first, the one without an end last."""
    return sorted(
        unordered,
        key=lambda tier: (tier.up_to_microtokens is None, tier.up_to_microtokens or 0),
    )
