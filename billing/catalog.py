"""Plans: draft, check, publish, retire.

A draft may be anything that a row can hold. Publishing checks it as a whole, names every fault at
its field, and freezes it (the database does). What customers have bought keeps its terms for ever:
a change is a new version, and retiring a version only ends its sale.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Max
from djmoney.money import Money

from billing import faults, lint, plan_faults
from billing.errors import AlreadyPublished, NotConfirmed, NotForSale
from billing.lint import Finding
from billing.models import OverageTier, Plan, PlanPrice, PlanVersion, SizeOption
from billing.terms import Price, prices


@dataclass(frozen=True, kw_only=True)
class PlanTerms:
    """What a plan's version says. The defaults are the product's."""

    unit_id: int
    rate_card_id: int
    prices: Sequence[Price]
    term_months: int = 1
    allotment_microtokens: int = 0
    grant_on_payment: bool = False
    overage_policy: str = PlanVersion.OveragePolicy.BLOCK
    overage_model: str = PlanVersion.OverageModel.GRADUATED
    overage_package_microtokens: int | None = None
    overage_cap_microtokens: int | None = None
    overage_soft_cap_microtokens: int | None = None
    rollover_basis_points: int = 2_000
    grace: timedelta = timedelta(hours=24)
    dunning_policy: str = PlanVersion.DunningPolicy.BLOCK
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
            grant_on_payment=terms.grant_on_payment,
            overage_policy=terms.overage_policy,
            overage_model=terms.overage_model,
            overage_package_microtokens=terms.overage_package_microtokens,
            overage_cap_microtokens=terms.overage_cap_microtokens,
            overage_soft_cap_microtokens=terms.overage_soft_cap_microtokens,
            rollover_basis_points=terms.rollover_basis_points,
            grace=terms.grace,
            dunning_policy=terms.dunning_policy,
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


def publish(*, version_id: int, confirmed: Collection[str] = (), at: datetime) -> PlanVersion:
    """Put a version up for sale, and freeze it.

    Raises AlreadyPublished; InvalidInput for what billing.lint calls an error; and NotConfirmed for
    its warnings, unless the codes of all of them are among the `confirmed`.
    """
    with transaction.atomic():
        version = PlanVersion.objects.select_for_update().get(pk=version_id)
        if version.published_at is not None:
            raise AlreadyPublished(what=str(version))
        _refuse(lint.of_version(version=version, prices=prices(version=version), at=at), confirmed)
        version.published_at = at
        version.save(update_fields=["published_at"])
        return version


def _refuse(findings: Sequence[Finding], confirmed: Collection[str]) -> None:
    faults.refuse(
        [
            faults.fault(finding.field, finding.code, finding.sentence)
            for finding in lint.errors_of(findings)
        ]
    )
    odd = {
        finding.code: finding.sentence
        for finding in lint.warnings_of(findings)
        if finding.code not in confirmed
    }
    if odd:
        raise NotConfirmed(warnings=odd)


def retire(*, version_id: int, at: datetime) -> None:
    """End the sale of a version; those who have it keep it. Retiring it again changes nothing."""
    PlanVersion.objects.filter(
        pk=version_id, published_at__isnull=False, retired_at__isnull=True
    ).update(retired_at=at)


def next_number(*, plan_id: int) -> int:
    latest = PlanVersion.objects.filter(plan_id=plan_id).aggregate(latest=Max("number"))["latest"]
    return (latest or 0) + 1


def require_for_sale(*, version: PlanVersion, vendor_id: int, currency: str, at: datetime) -> None:
    """Raises NotForSale, with the reason, unless this customer can be put on it now."""
    reason = None
    if version.plan.vendor_id != vendor_id:
        reason = "another vendor sells it"
    elif version.published_at is None or version.published_at > at:
        reason = "it is not published"
    elif version.retired_at is not None and version.retired_at <= at:
        reason = "it is retired"
    elif not version.prices.filter(currency=currency).exists():
        reason = f"it is not sold in {currency}"
    if reason is not None:
        raise NotForSale(what=str(version), reason=reason)


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
