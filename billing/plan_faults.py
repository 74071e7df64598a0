"""What keeps a plan's version from being published: every fault, at its field.

A fault of a price says in which currency: `prices.EUR.commitment`.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

from djmoney.money import Money

from billing import faults, pricing, terms
from billing.models import PlanVersion
from billing.models.catalog import (
    BILLING_POLICIES,
    TERM_MONTHS_MAX,
    TRIAL_DAYS_MAX,
    VALIDITY_MONTHS_MAX,
)
from billing.pricing import WHOLE_BASIS_POINTS
from billing.terms import Price, in_order
from ledger import catalog as ledger_catalog
from ledger.errors import Fault
from ledger.units import LOT_MICROTOKENS_MAX, LOT_PRICE_MICROS_MAX
from ledger.value import Tier

TIERS_MAX = 20
SEAT_PRICE_MAX = 10_000_000
GRACE_MAX = timedelta(days=31)
THRESHOLD_PERCENT_MAX = 100


def found(*, version: PlanVersion, prices: Sequence[Price]) -> list[Fault]:
    """Everything that keeps these terms from being published."""
    return [*of_version(version=version), *of_prices(version=version, prices=prices)]


def of_version(*, version: PlanVersion) -> list[Fault]:
    """What is the same in every currency."""
    return [
        *_of_references(version),
        *_of_terms(version),
        *_of_thresholds(version.alert_thresholds),
        *_of_package(version),
        *_of_cap(version),
        *_of_soft_cap(version),
        *_of_gifts(version),
    ]


def of_prices(*, version: PlanVersion, prices: Sequence[Price]) -> list[Fault]:
    """What a currency asks for, each at its own price."""
    if not prices:
        message = "there must be a price in at least one currency"
        return [faults.fault("prices", "required", message)]
    often = Counter(price.currency for price in prices)
    twice = [
        faults.fault(f"prices.{currency}.currency", "once", "has a price already")
        for currency, count in often.items()
        if count > 1
    ]
    return [
        *twice,
        *(fault for price in prices for fault in _of_price(version, price)),
        *_of_sizes_together(prices),
    ]


def _of_price(version: PlanVersion, price: Price) -> list[Fault]:
    path = f"prices.{price.currency}"
    unknown = faults.of_currency(f"{path}.currency", price.currency)
    if unknown:
        return unknown
    return [
        *_of_amounts(path, price),
        *_of_seats(path, price),
        *_of_commitment(path, price),
        *_of_granting(path, version, price),
        *_of_sizes(path, version, price),
        *_of_overage(path, version, price),
    ]


def _of_amounts(path: str, price: Price) -> list[Fault]:
    amounts = {
        "platform_fee": price.platform_fee,
        "allotment_price": price.allotment_price,
        "commitment": price.commitment,
        "seat_price": price.seat_price,
        "package_price": price.package_price,
    }
    return [
        fault
        for name, amount in amounts.items()
        for fault in faults.of_money(f"{path}.{name}", Money(amount, price.currency))
    ]


def _of_seats(path: str, price: Price) -> list[Fault]:
    """So many seats as may be sold still fit an invoice's line."""
    if price.seat_price <= SEAT_PRICE_MAX:
        return []
    message = f"must be at most {SEAT_PRICE_MAX:,}"
    return [faults.fault(f"{path}.seat_price", "range", message)]


def _of_commitment(path: str, price: Price) -> list[Fault]:
    if not 0 < price.commitment <= price.platform_fee + price.allotment_price:
        return []
    message = "must be more than platform fee and allotment, which come to that already"
    return [faults.fault(f"{path}.commitment", "reached", message)]


def _of_granting(path: str, version: PlanVersion, price: Price) -> list[Fault]:
    if not price.allotment_price > 0 or version.allotment_microtokens > 0:
        return []
    message = "has a price, but grants no tokens"
    return [faults.fault(f"{path}.allotment_price", "grants", message)]


def _of_references(version: PlanVersion) -> list[Fault]:
    book_id = version.plan.vendor.book_id
    wrong = []
    if version.unit_id not in {unit.id for unit in ledger_catalog.units(book_id=book_id)}:
        wrong.append(faults.fault("unit_id", "exists", "names no unit of this vendor"))
    cards = {card.id: card for card in ledger_catalog.rate_cards(book_id=book_id)}
    if version.rate_card_id not in cards:
        wrong.append(faults.fault("rate_card_id", "exists", "names no published rate card"))
    elif cards[version.rate_card_id].unit_id != version.unit_id:
        wrong.append(faults.fault("rate_card_id", "unit", "prices in another unit than the plan's"))
    return wrong


def _of_terms(version: PlanVersion) -> list[Fault]:
    wrong = []
    if not 1 <= version.term_months <= TERM_MONTHS_MAX:
        message = f"must be from 1 to {TERM_MONTHS_MAX} months"
        wrong.append(faults.fault("term_months", "range", message))
    if not 0 <= version.allotment_microtokens <= LOT_MICROTOKENS_MAX:
        wrong.append(
            faults.fault("allotment_microtokens", "range", "must be from 0 to a billion tokens")
        )
    if not 0 <= version.rollover_basis_points <= WHOLE_BASIS_POINTS:
        wrong.append(
            faults.fault("rollover_basis_points", "range", "must be from 0 to 10,000 (100 %)")
        )
    if not timedelta(0) <= version.grace <= GRACE_MAX:
        wrong.append(faults.fault("grace", "range", "must be from 0 to 31 days"))
    return wrong


def _of_thresholds(thresholds: Sequence[int]) -> list[Fault]:
    if any(not 1 <= threshold <= THRESHOLD_PERCENT_MAX for threshold in thresholds):
        return [faults.fault("alert_thresholds", "range", "must be from 1 to 100 per cent")]
    if list(thresholds) != sorted(set(thresholds)):
        return [faults.fault("alert_thresholds", "ascending", "must ascend, each once")]
    return []


def _of_package(version: PlanVersion) -> list[Fault]:
    size = version.overage_package_microtokens
    if version.overage_model != PlanVersion.OverageModel.PACKAGE:
        message = "is only for overage that is sold by the package"
        return (
            [] if size is None else [faults.fault("overage_package_microtokens", "model", message)]
        )
    if size is None or not 0 < size <= LOT_MICROTOKENS_MAX:
        message = "must be from 1 to a billion tokens, for overage that is sold by the package"
        return [faults.fault("overage_package_microtokens", "range", message)]
    return []


def _of_gifts(version: PlanVersion) -> list[Fault]:
    wrong = []
    for name in ("trial_microtokens", "welcome_microtokens"):
        if not 0 <= getattr(version, name) <= LOT_MICROTOKENS_MAX:
            wrong.append(faults.fault(name, "range", "must be from 0 to a billion tokens"))
    if not 0 <= version.trial_days <= TRIAL_DAYS_MAX:
        wrong.append(faults.fault("trial_days", "range", f"must be from 0 to {TRIAL_DAYS_MAX}"))
    if version.trial_microtokens and not version.trial_days:
        message = "are for a trial: say how many days it has"
        wrong.append(faults.fault("trial_microtokens", "trial", message))
    if not 1 <= version.welcome_months <= VALIDITY_MONTHS_MAX:
        message = f"must be from 1 to {VALIDITY_MONTHS_MAX}"
        wrong.append(faults.fault("welcome_months", "range", message))
    return wrong


def _of_cap(version: PlanVersion) -> list[Fault]:
    cap = version.overage_cap_microtokens
    if cap is None:
        return []
    if version.overage_policy not in BILLING_POLICIES:
        message = "is only for overage that is invoiced"
        return [faults.fault("overage_cap_microtokens", "policy", message)]
    if not 0 < cap <= LOT_MICROTOKENS_MAX:
        message = "must be from 1 to a billion tokens"
        return [faults.fault("overage_cap_microtokens", "range", message)]
    return []


def _of_soft_cap(version: PlanVersion) -> list[Fault]:
    soft, hard = version.overage_soft_cap_microtokens, version.overage_cap_microtokens
    field = "overage_soft_cap_microtokens"
    if soft is None:
        return []
    if version.overage_policy != PlanVersion.OveragePolicy.BILL:
        message = "is only for overage that is invoiced without asking first"
        return [faults.fault(field, "policy", message)]
    if not 0 < soft <= LOT_MICROTOKENS_MAX:
        return [faults.fault(field, "range", "must be from 1 to a billion tokens")]
    if hard is not None and soft >= hard:
        return [faults.fault(field, "order", "must be less than the hard cap")]
    return []


def _of_sizes(path: str, version: PlanVersion, price: Price) -> list[Fault]:
    if not price.sizes:
        return []
    wrong = []
    if version.allotment_microtokens or price.allotment_price:
        message = "must be 0: the plan comes in sizes, each with an allotment of its own"
        wrong.append(faults.fault(f"{path}.allotment_price", "sizes", message))
    often = Counter(size.code for size in price.sizes)
    for code in sorted(code for code, count in often.items() if count > 1):
        wrong.append(faults.fault(f"{path}.sizes.{code}.code", "once", "names two sizes"))
    for size in price.sizes:
        at = f"{path}.sizes.{size.code}"
        wrong += faults.of_money(
            f"{at}.allotment_price", Money(size.allotment_price, price.currency)
        )
        if not 0 < size.allotment_microtokens <= LOT_MICROTOKENS_MAX:
            message = "must be from 1 to a billion tokens"
            wrong.append(faults.fault(f"{at}.allotment_microtokens", "range", message))
    return wrong


def _of_sizes_together(prices: Sequence[Price]) -> list[Fault]:
    """A size is the same tokens under the same name, whatever the currency."""
    first, *others = prices
    known = {size.code: size for size in first.sizes}
    wrong = []
    for price in others:
        path = f"prices.{price.currency}.sizes"
        for size in price.sizes:
            meant = known.get(size.code)
            if meant is None or (meant.name, meant.allotment_microtokens) != (
                size.name,
                size.allotment_microtokens,
            ):
                message = f"is not the same size in {first.currency}"
                wrong.append(faults.fault(f"{path}.{size.code}.code", "same", message))
        for code in sorted(known.keys() - {size.code for size in price.sizes}):
            message = f"the size {code} has no price"
            wrong.append(faults.fault(path, "required", message))
    return wrong


def _of_overage(path: str, version: PlanVersion, price: Price) -> list[Fault]:
    is_billed = version.overage_policy in BILLING_POLICIES
    by_package = version.overage_model == PlanVersion.OverageModel.PACKAGE
    wrong = [
        *_of_package_price(f"{path}.package_price", price, is_asked=is_billed and by_package),
        *_of_tiers(f"{path}.overage_tiers", price, is_billed=is_billed, by_package=by_package),
    ]
    tiers = None if wrong else terms.tiers_of(version=version, price=price)
    cap = version.overage_cap_microtokens
    if tiers is not None and cap and cap > pricing.overage_microtokens_max(tiers=tiers):
        field = f"{path}.{'package_price' if by_package else 'overage_tiers'}"
        message = "times the hard cap of overage must be at most a trillion for a term"
        wrong = [faults.fault(field, "amount", message)]
    return wrong


def _of_package_price(field: str, price: Price, *, is_asked: bool) -> list[Fault]:
    if is_asked and not price.package_price > 0:
        message = "must be more than 0: overage is sold by the package"
        return [faults.fault(field, "required", message)]
    if price.package_price and not is_asked:
        message = "is only for overage that is invoiced by the package"
        return [faults.fault(field, "model", message)]
    return []


def _of_tiers(field: str, price: Price, *, is_billed: bool, by_package: bool) -> list[Fault]:
    tiers = in_order(price.overage_tiers)
    if is_billed and not by_package:
        return _of_steps(field, tiers)
    asked = "has its price by the package" if is_billed else "is not invoiced"
    message = f"is only for overage that is invoiced by tiers: here it {asked}"
    return [faults.fault(field, "policy", message)] if tiers else []


def _of_steps(field: str, tiers: Sequence[Tier]) -> list[Fault]:
    if not tiers:
        return [faults.fault(field, "required", "overage that is invoiced needs a price")]
    bounds = [tier.up_to_microtokens for tier in tiers]
    wrong = []
    if bounds.count(None) != 1:
        wrong.append(faults.fault(field, "last", "exactly one tier must take all the rest"))
    if len(set(bounds)) != len(bounds) or any(bound is not None and bound <= 0 for bound in bounds):
        wrong.append(faults.fault(field, "ascending", "each tier must reach beyond the last"))
    if any(not 0 <= tier.micros_per_token <= LOT_PRICE_MICROS_MAX for tier in tiers):
        wrong.append(faults.fault(field, "price", "a price must be from 0 to a billion"))
    if len(tiers) > TIERS_MAX:
        wrong.append(faults.fault(field, "count", f"there can be at most {TIERS_MAX}"))
    return wrong
