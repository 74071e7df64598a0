"""The terms of a plan's version in one currency: everything that a subscription is billed by.

A version sells in one or more currencies, at a price of its own in each: nothing is converted. Who
grants, invoices, explains or simulates reads `Terms`, and never the rows that they come from.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Final

from djmoney.money import Money

from billing import money
from billing.errors import NotForSale
from billing.models import PlanVersion, Subscription
from billing.models.catalog import BILLING_POLICIES
from ledger.value import Package, Tier, Tiers

TERMS_KEPT_MAX: Final = 1_000


@dataclass(frozen=True, kw_only=True)
class Size:
    """One size of the allotment, in the currency of its price."""

    code: str
    name: str
    allotment_microtokens: int
    allotment_price: Decimal


@dataclass(frozen=True, kw_only=True)
class Price:
    """What a version costs in one currency. The defaults are nothing."""

    currency: str
    platform_fee: Decimal = Decimal(0)
    allotment_price: Decimal = Decimal(0)
    commitment: Decimal = Decimal(0)
    package_price: Decimal = Decimal(0)
    seat_price: Decimal = Decimal(0)
    sizes: Sequence[Size] = ()
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
    grant_on_payment: bool
    commitment: Money
    seat_price: Money
    size: Size | None  # None: the plan comes in one size only
    sizes_offered: tuple[Size, ...]  # smallest first; empty once one is chosen
    overage_policy: str
    tiers: Tiers | None  # None: overage is not invoiced
    overage_cap_microtokens: int | None
    overage_soft_cap_microtokens: int | None  # 0: somebody is asked before any is used
    rollover_basis_points: int
    grace: timedelta
    alert_thresholds: tuple[int, ...]
    trial_days: int
    trial_microtokens: int
    welcome_microtokens: int
    welcome_months: int

    @property
    def grants_on_payment(self) -> bool:
        """Whether tokens wait for money. What costs nothing is there at once."""
        return self.grant_on_payment and self.allotment_price.amount > 0

    @property
    def bills_overage(self) -> bool:
        return self.overage_policy in BILLING_POLICIES


def of(*, subscription: Subscription) -> Terms:
    """The terms of a subscription. Its customer's currency picks the price."""
    size = subscription.size
    return of_version(
        version=subscription.plan_version,
        currency=subscription.customer.currency,
        size=None if size is None else size.code,
    )


def of_version(*, version: PlanVersion, currency: str, size: str | None = None) -> Terms:
    """The terms of a version in a currency, and in a size if it comes in several.

    Without a size they are those of the smallest. Raises NotForSale if it has no price in the
    currency, or no such size.
    """
    if version.published_at is not None:
        return _published(version.pk, version.published_at, currency, size)
    return _looked_up(version, currency, size)


@lru_cache(maxsize=TERMS_KEPT_MAX)
def _published(version_id: int, at: datetime, currency: str, size: str | None) -> Terms:
    """What is published never changes, so it is looked up once; but for a publishing that was
    undone: what is published after it is so at another instant, `at`."""
    version = PlanVersion.objects.select_related("plan").get(pk=version_id)
    return _looked_up(version, currency, size)


def _looked_up(version: PlanVersion, currency: str, size: str | None) -> Terms:
    for price in prices(version=version):
        if price.currency == currency:
            return put_together(version=version, price=price, size=size)
    raise NotForSale(what=str(version), reason=f"it is not sold in {currency}")


def put_together(*, version: PlanVersion, price: Price, size: str | None = None) -> Terms:
    """The terms that a version, saved or not, has at a price."""
    sizes = sorted(price.sizes, key=lambda one: one.allotment_microtokens)
    smallest = sizes[0] if sizes else None
    chosen = smallest if size is None else _size(version, sizes, size)
    granted = version.allotment_microtokens if chosen is None else chosen.allotment_microtokens
    paid = price.allotment_price if chosen is None else chosen.allotment_price

    def amount(number: Decimal) -> Money:
        return Money(number, price.currency)

    return Terms(
        version_id=version.pk,
        unit_id=version.unit_id,
        rate_card_id=version.rate_card_id,
        currency=price.currency,
        term_months=version.term_months,
        platform_fee=amount(price.platform_fee),
        allotment_microtokens=granted,
        allotment_price=amount(paid),
        grant_on_payment=version.grant_on_payment,
        commitment=amount(price.commitment),
        seat_price=amount(price.seat_price),
        size=chosen,
        sizes_offered=tuple(sizes) if size is None else (),
        overage_policy=version.overage_policy,
        tiers=tiers_of(version=version, price=price),
        overage_cap_microtokens=version.overage_cap_microtokens,
        overage_soft_cap_microtokens=(
            0
            if version.overage_policy == PlanVersion.OveragePolicy.REVIEW
            else version.overage_soft_cap_microtokens
        ),
        rollover_basis_points=version.rollover_basis_points,
        grace=version.grace,
        alert_thresholds=tuple(version.alert_thresholds),
        trial_days=version.trial_days,
        trial_microtokens=version.trial_microtokens,
        welcome_microtokens=version.welcome_microtokens,
        welcome_months=version.welcome_months,
    )


def _size(version: PlanVersion, sizes: Sequence[Size], code: str) -> Size:
    for size in sizes:
        if size.code == code:
            return size
    raise NotForSale(what=str(version), reason=f"it has no size {code!r}")


def tiers_of(*, version: PlanVersion, price: Price) -> Tiers | None:
    """How overage is priced in a currency; None if it is not, or cannot be yet: see plan_faults."""
    if version.overage_policy not in BILLING_POLICIES:
        return None
    steps = tuple(in_order(price.overage_tiers))
    if version.overage_model != PlanVersion.OverageModel.PACKAGE:
        is_volume = version.overage_model == PlanVersion.OverageModel.VOLUME
        return Tiers(model="volume" if is_volume else "graduated", steps=steps) if steps else None
    if not version.overage_package_microtokens:
        return None
    package = Package(
        microtokens=version.overage_package_microtokens,
        micros=money.to_micros(Money(price.package_price, price.currency)),
    )
    return Tiers(model="package", package=package)


def prices(*, version: PlanVersion) -> list[Price]:
    """What a saved version costs, in each currency that it is sold in."""
    sizes: dict[str, list[Size]] = {}
    for size in version.sizes.all():
        sizes.setdefault(size.currency, []).append(
            Size(
                code=size.code,
                name=size.name,
                allotment_microtokens=size.allotment_microtokens,
                allotment_price=size.allotment_price.amount,
            )
        )
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
            package_price=row.package_price.amount,
            seat_price=row.seat_price.amount,
            sizes=sizes.get(row.currency, ()),
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
