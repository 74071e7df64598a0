"""Plans and top-up packs: draft, check, publish, retire.

A draft may be anything that a row can hold. Publishing checks it as a whole, names every fault at
its field, and freezes it (the database does). What customers have bought keeps its terms for ever:
a change is a new version, and retiring a version only ends its sale.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.conf import settings
from django.db import transaction
from django.db.models import Max
from djmoney.money import Money

from billing import money, names, pricing
from billing.errors import AlreadyPublished, AmountNotPayable, InvalidInput, NotForSale
from billing.models import OverageTier, Plan, PlanVersion, TopUpPack
from billing.models.catalog import TERMS_MONTHS
from billing.pricing import WHOLE_BASIS_POINTS
from ledger import catalog as ledger_catalog
from ledger.errors import Fault
from ledger.units import LOT_MICROTOKENS_MAX, LOT_PRICE_MICROS_MAX
from ledger.value import Tier

TIERS_MAX = 20
GRACE_MAX = timedelta(days=31)
THRESHOLD_PERCENT_MAX = 100


@dataclass(frozen=True, kw_only=True)
class PlanTerms:
    """What a plan's version says. Prices are in `currency`; the defaults are the product's."""

    unit_id: int
    rate_card_id: int
    currency: str
    term_months: int = 1
    platform_fee: Decimal = Decimal(0)
    allotment_microtokens: int = 0
    allotment_price: Decimal = Decimal(0)
    commitment: Decimal = Decimal(0)
    overage_policy: str = PlanVersion.OveragePolicy.BLOCK
    overage_tiers: Sequence[Tier] = ()
    overage_cap_microtokens: int | None = None
    rollover_basis_points: int = 2_000
    grace: timedelta = timedelta(hours=24)
    alert_thresholds: Sequence[int] = (70, 90, 100)


def create_plan(*, vendor_id: int, code: str, name: str) -> Plan:
    """A plan without a version yet; the plan that the code names, if there is one.

    Raises InvalidInput.
    """
    _refuse(_faults_of_name(name))
    plan, _ = Plan.objects.get_or_create(vendor_id=vendor_id, code=code, defaults={"name": name})
    return plan


def draft(*, plan_id: int, terms: PlanTerms) -> PlanVersion:
    """The plan's next version, not yet for sale. Raises InvalidInput for what no row can hold."""
    if terms.currency not in settings.CURRENCIES:
        _refuse([_fault_of_currency("currency")])
    with transaction.atomic():
        plan = Plan.objects.select_for_update().get(pk=plan_id)
        version = PlanVersion(
            plan=plan,
            number=next_number(plan_id=plan_id),
            unit_id=terms.unit_id,
            rate_card_id=terms.rate_card_id,
            term_months=terms.term_months,
            platform_fee=Money(terms.platform_fee, terms.currency),
            allotment_microtokens=terms.allotment_microtokens,
            allotment_price=Money(terms.allotment_price, terms.currency),
            commitment=Money(terms.commitment, terms.currency),
            overage_policy=terms.overage_policy,
            overage_cap_microtokens=terms.overage_cap_microtokens,
            rollover_basis_points=terms.rollover_basis_points,
            grace=terms.grace,
            alert_thresholds=list(terms.alert_thresholds),
        )
        _refuse(faults(version=version, tiers=terms.overage_tiers))
        version.save(force_insert=True)
        OverageTier.objects.bulk_create(
            OverageTier(
                version=version,
                up_to_microtokens=tier.up_to_microtokens,
                micros_per_token=tier.micros_per_token,
            )
            for tier in terms.overage_tiers
        )
        return version


def publish(*, version_id: int, at: datetime) -> PlanVersion:
    """Put a version up for sale, and freeze it. Raises AlreadyPublished and InvalidInput."""
    with transaction.atomic():
        version = PlanVersion.objects.select_for_update().get(pk=version_id)
        if version.published_at is not None:
            raise AlreadyPublished(what=str(version))
        _refuse(faults(version=version, tiers=tiers(version=version)))
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


def tiers(*, version: PlanVersion) -> list[Tier]:
    """The version's overage tiers, in order, as the ledger prices with them."""
    return in_order(
        Tier(up_to_microtokens=row.up_to_microtokens, micros_per_token=row.micros_per_token)
        for row in version.tiers.all()
    )


def in_order(unordered: Iterable[Tier]) -> list[Tier]:
    """Smallest bound first, the one without an end last."""
    return sorted(
        unordered,
        key=lambda tier: (tier.up_to_microtokens is None, tier.up_to_microtokens or 0),
    )


def faults(*, version: PlanVersion, tiers: Sequence[Tier]) -> list[Fault]:
    """Everything that keeps these terms from being published, each at its field."""
    return [
        *_faults_of_prices(version),
        *_faults_of_references(version),
        *_faults_of_terms(version),
        *_faults_of_thresholds(version.alert_thresholds),
        *_faults_of_overage(version, tiers),
    ]


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
    _refuse(pack_faults(pack=pack))
    pack.save(force_insert=True)
    return pack


def publish_pack(*, pack_id: int, at: datetime) -> TopUpPack:
    """Put a pack up for sale, and freeze it. Raises AlreadyPublished and InvalidInput."""
    with transaction.atomic():
        pack = TopUpPack.objects.select_for_update().get(pk=pack_id)
        if pack.published_at is not None:
            raise AlreadyPublished(what=str(pack))
        _refuse(pack_faults(pack=pack))
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
    found = [*_faults_of_name(pack.name), *_faults_of_money("price", pack.price)]
    if pack.price.amount == 0:
        found.append(_fault("price", "positive", "must be more than 0"))
    if not 0 < pack.microtokens <= LOT_MICROTOKENS_MAX:
        found.append(_fault("microtokens", "range", "must be from 1 to a billion tokens"))
    if not 1 <= pack.validity_months <= 120:
        found.append(_fault("validity_months", "range", "must be from 1 to 120 months"))
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
    if item.currency != currency:
        raise NotForSale(what=str(item), reason=f"it is not sold in {currency}")


def _refuse(found: Sequence[Fault]) -> None:
    if found:
        raise InvalidInput(faults=found)


def _fault(field: str, rule: str, message: str) -> Fault:
    return Fault(field=field, rule=rule, message=message)


def _fault_of_currency(field: str) -> Fault:
    return _fault(field, "currency", f"must be in one of {', '.join(settings.CURRENCIES)}")


def _faults_of_name(name: str) -> list[Fault]:
    if names.is_plain(name):
        return []
    return [_fault("name", "plain", "must be one line, without control characters")]


def _faults_of_prices(version: PlanVersion) -> list[Fault]:
    found = [
        *_faults_of_money("platform_fee", version.platform_fee),
        *_faults_of_money("allotment_price", version.allotment_price),
        *_faults_of_money("commitment", version.commitment),
    ]
    in_advance = version.platform_fee.amount + version.allotment_price.amount
    if 0 < version.commitment.amount <= in_advance:
        message = "platform fee and allotment come to that already"
        found.append(_fault("commitment", "reached", message))
    if version.allotment_price.amount > 0 and version.allotment_microtokens == 0:
        found.append(_fault("allotment_price", "grants", "has a price, but grants no tokens"))
    return found


def _faults_of_money(field: str, price: Money) -> list[Fault]:
    code = price.currency.code
    if code not in settings.CURRENCIES:
        return [_fault_of_currency(field)]
    try:
        micros = money.to_micros(price)
        money.to_minor_units(price)
    except AmountNotPayable as error:
        return [_fault(field, "payable", str(error))]
    if not 0 <= micros <= LOT_PRICE_MICROS_MAX:
        return [_fault(field, "range", "must be from 0 to a billion")]
    return []


def _faults_of_references(version: PlanVersion) -> list[Fault]:
    book_id = version.plan.vendor.book_id
    found = []
    if version.unit_id not in {unit.id for unit in ledger_catalog.units(book_id=book_id)}:
        found.append(_fault("unit_id", "exists", "names no unit of this vendor"))
    cards = {card.id: card for card in ledger_catalog.rate_cards(book_id=book_id)}
    if version.rate_card_id not in cards:
        found.append(_fault("rate_card_id", "exists", "names no published rate card"))
    elif cards[version.rate_card_id].unit_id != version.unit_id:
        found.append(_fault("rate_card_id", "unit", "prices in another unit than the plan's"))
    return found


def _faults_of_terms(version: PlanVersion) -> list[Fault]:
    found = []
    if version.term_months not in TERMS_MONTHS:
        found.append(_fault("term_months", "choice", "must be 1, 3 or 12 months"))
    if not 0 <= version.allotment_microtokens <= LOT_MICROTOKENS_MAX:
        found.append(_fault("allotment_microtokens", "range", "must be from 0 to a billion tokens"))
    if not 0 <= version.rollover_basis_points <= WHOLE_BASIS_POINTS:
        found.append(_fault("rollover_basis_points", "range", "must be from 0 to 10,000 (100 %)"))
    if not timedelta(0) <= version.grace <= GRACE_MAX:
        found.append(_fault("grace", "range", "must be from 0 to 31 days"))
    return found


def _faults_of_thresholds(thresholds: Sequence[int]) -> list[Fault]:
    if any(not 1 <= threshold <= THRESHOLD_PERCENT_MAX for threshold in thresholds):
        return [_fault("alert_thresholds", "range", "must be from 1 to 100 per cent")]
    if list(thresholds) != sorted(set(thresholds)):
        return [_fault("alert_thresholds", "ascending", "must ascend, each once")]
    return []


def _faults_of_overage(version: PlanVersion, tiers: Sequence[Tier]) -> list[Fault]:
    cap = version.overage_cap_microtokens
    if version.overage_policy != PlanVersion.OveragePolicy.BILL:
        return [
            _fault(field, "policy", "is only for overage that is invoiced")
            for field, given in (("overage_tiers", tiers), ("overage_cap_microtokens", cap))
            if given
        ]
    found = _faults_of_tiers(in_order(tiers))
    if cap is not None and not 0 < cap <= LOT_MICROTOKENS_MAX:
        found.append(
            _fault("overage_cap_microtokens", "range", "must be from 1 to a billion tokens")
        )
    elif cap is not None and cap > pricing.overage_microtokens_max(tiers=tiers):
        found.append(
            _fault(
                "overage_cap_microtokens",
                "amount",
                "times the dearest price must be at most a trillion for a term",
            )
        )
    return found


def _faults_of_tiers(tiers: Sequence[Tier]) -> list[Fault]:
    if not tiers:
        return [_fault("overage_tiers", "required", "overage that is invoiced needs a price")]
    bounds = [tier.up_to_microtokens for tier in tiers]
    found = []
    if bounds.count(None) != 1:
        found.append(_fault("overage_tiers", "last", "exactly one tier must take all the rest"))
    if len(set(bounds)) != len(bounds) or any(bound is not None and bound <= 0 for bound in bounds):
        found.append(_fault("overage_tiers", "ascending", "each tier must reach beyond the last"))
    if any(not 0 <= tier.micros_per_token <= LOT_PRICE_MICROS_MAX for tier in tiers):
        found.append(_fault("overage_tiers", "price", "a price must be from 0 to a billion"))
    if len(tiers) > TIERS_MAX:
        found.append(_fault("overage_tiers", "count", f"there can be at most {TIERS_MAX}"))
    return found
