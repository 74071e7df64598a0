"""Plans and top-up packs: draft, check, publish, retire.

A draft may be anything that a row can hold. Publishing checks it as a whole, names every fault at
its field, and freezes it (the database does). What customers have bought keeps its terms for ever:
a change is a new version, and retiring a version only ends its sale.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Max
from djmoney.money import Money

from billing import faults, plan_faults
from billing.errors import AlreadyPublished, NotForSale
from billing.models import OverageTier, Plan, PlanPrice, PlanVersion, SizeOption, TopUpPack
from billing.terms import Price, prices
from ledger.errors import Fault
from ledger.units import LOT_MICROTOKENS_MAX


@dataclass(frozen=True, kw_only=True)
class PlanTerms:
    """What a plan's version says. The defaults are the product's."""

    unit_id: int
    rate_card_id: int
    prices: Sequence[Price]
    term_months: int = 1
    allotment_microtokens: int = 0
    overage_policy: str = PlanVersion.OveragePolicy.BLOCK
    overage_model: str = PlanVersion.OverageModel.GRADUATED
    overage_package_microtokens: int | None = None
    overage_cap_microtokens: int | None = None
    rollover_basis_points: int = 2_000
    grace: timedelta = timedelta(hours=24)
    alert_thresholds: Sequence[int] = (70, 90, 100)
    trial_days: int = 0
    trial_microtokens: int = 0
    welcome_microtokens: int = 0
    welcome_months: int = 3


def create_plan(*, vendor_id: int, code: str, name: str) -> Plan:
    """A plan without a version yet; the plan that the code names, if there is one.

    Raises InvalidInput.
    """
    faults.refuse(faults.of_name(name))
    plan, _ = Plan.objects.get_or_create(vendor_id=vendor_id, code=code, defaults={"name": name})
    return plan


def draft(*, plan_id: int, terms: PlanTerms) -> PlanVersion:
    """The plan's next version, not yet for sale. Raises InvalidInput for what no row can hold."""
    with transaction.atomic():
        plan = Plan.objects.select_for_update().get(pk=plan_id)
        version = PlanVersion(
            plan=plan,
            number=next_number(plan_id=plan_id),
            unit_id=terms.unit_id,
            rate_card_id=terms.rate_card_id,
            term_months=terms.term_months,
            allotment_microtokens=terms.allotment_microtokens,
            overage_policy=terms.overage_policy,
            overage_model=terms.overage_model,
            overage_package_microtokens=terms.overage_package_microtokens,
            overage_cap_microtokens=terms.overage_cap_microtokens,
            rollover_basis_points=terms.rollover_basis_points,
            grace=terms.grace,
            alert_thresholds=list(terms.alert_thresholds),
            trial_days=terms.trial_days,
            trial_microtokens=terms.trial_microtokens,
            welcome_microtokens=terms.welcome_microtokens,
            welcome_months=terms.welcome_months,
        )
        faults.refuse(plan_faults.found(version=version, prices=terms.prices))
        version.save(force_insert=True)
        for price in terms.prices:
            _save_price(version, price)
        return version


def publish(*, version_id: int, at: datetime) -> PlanVersion:
    """Put a version up for sale, and freeze it. Raises AlreadyPublished and InvalidInput."""
    with transaction.atomic():
        version = PlanVersion.objects.select_for_update().get(pk=version_id)
        if version.published_at is not None:
            raise AlreadyPublished(what=str(version))
        faults.refuse(plan_faults.found(version=version, prices=prices(version=version)))
        version.published_at = at
        version.save(update_fields=["published_at"])
        return version


def retire(*, version_id: int, at: datetime) -> None:
    """End the sale of a version; those who have it keep it. Retiring it again changes nothing."""
    PlanVersion.objects.filter(
        pk=version_id, published_at__isnull=False, retired_at__isnull=True
    ).update(retired_at=at)


def next_number(*, plan_id: int) -> int:
    latest = PlanVersion.objects.filter(plan_id=plan_id).aggregate(latest=Max("number"))["latest"]
    return (latest or 0) + 1


def create_pack(
    *,
    vendor_id: int,
    code: str,
    name: str,
    microtokens: int,
    price: Money,
    validity_months: int = 12,
) -> TopUpPack:
    """A pack, not yet for sale. Raises InvalidInput."""
    pack = TopUpPack(
        vendor_id=vendor_id,
        code=code,
        name=name,
        microtokens=microtokens,
        price=price,
        validity_months=validity_months,
    )
    faults.refuse(pack_faults(pack=pack))
    pack.save(force_insert=True)
    return pack


def publish_pack(*, pack_id: int, at: datetime) -> TopUpPack:
    """Put a pack up for sale, and freeze it. Raises AlreadyPublished and InvalidInput."""
    with transaction.atomic():
        pack = TopUpPack.objects.select_for_update().get(pk=pack_id)
        if pack.published_at is not None:
            raise AlreadyPublished(what=str(pack))
        faults.refuse(pack_faults(pack=pack))
        pack.published_at = at
        pack.save(update_fields=["published_at"])
        return pack


def retire_pack(*, pack_id: int, at: datetime) -> None:
    """End the sale of a pack; tokens that were bought stay. Again: changes nothing."""
    TopUpPack.objects.filter(
        pk=pack_id, published_at__isnull=False, retired_at__isnull=True
    ).update(retired_at=at)


def pack_faults(*, pack: TopUpPack) -> list[Fault]:
    """Everything that keeps a pack from being published, each at its field."""
    found = faults.of_name(pack.name)
    found += faults.of_currency("price", pack.price.currency.code) or faults.of_money(
        "price", pack.price
    )
    if pack.price.amount == 0:
        found.append(faults.fault("price", "positive", "must be more than 0"))
    if not 0 < pack.microtokens <= LOT_MICROTOKENS_MAX:
        found.append(faults.fault("microtokens", "range", "must be from 1 to a billion tokens"))
    if not 1 <= pack.validity_months <= 120:
        found.append(faults.fault("validity_months", "range", "must be from 1 to 120 months"))
    return found


def require_for_sale(
    *, item: PlanVersion | TopUpPack, vendor_id: int, currency: str, at: datetime
) -> None:
    """Raises NotForSale, with the reason, unless this customer can buy it now."""
    seller = item.vendor_id if isinstance(item, TopUpPack) else item.plan.vendor_id
    if seller != vendor_id:
        raise NotForSale(what=str(item), reason="another vendor sells it")
    if item.published_at is None or item.published_at > at:
        raise NotForSale(what=str(item), reason="it is not published")
    if item.retired_at is not None and item.retired_at <= at:
        raise NotForSale(what=str(item), reason="it is retired")
    sold_in = (
        [item.currency]
        if isinstance(item, TopUpPack)
        else item.prices.values_list("currency", flat=True)
    )
    if currency not in sold_in:
        raise NotForSale(what=str(item), reason=f"it is not sold in {currency}")


def _save_price(version: PlanVersion, price: Price) -> None:
    PlanPrice.objects.create(
        version=version,
        platform_fee=Money(price.platform_fee, price.currency),
        allotment_price=Money(price.allotment_price, price.currency),
        commitment=Money(price.commitment, price.currency),
        package_price=Money(price.package_price, price.currency),
        seat_price=Money(price.seat_price, price.currency),
    )
    SizeOption.objects.bulk_create(
        SizeOption(
            version=version,
            code=size.code,
            name=size.name,
            allotment_microtokens=size.allotment_microtokens,
            allotment_price=Money(size.allotment_price, price.currency),
        )
        for size in price.sizes
    )
    OverageTier.objects.bulk_create(
        OverageTier(
            version=version,
            currency=price.currency,
            up_to_microtokens=tier.up_to_microtokens,
            micros_per_token=tier.micros_per_token,
        )
        for tier in price.overage_tiers
    )
