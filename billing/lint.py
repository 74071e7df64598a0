"""What is wrong with a plan's version, or odd, before it is published.

An error stops publishing; a warning has to be confirmed by whoever publishes. Each finding names
the field and says how to mend it. What no row can hold (billing.plan_faults) is an error here, too.
The rules are pure: they look at a Subject, which is read at once.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from itertools import pairwise
from typing import Final, Literal

from billing import complexity, explain, money, packs, plan_faults, pricing, terms
from billing.models import PlanVersion, TopUpPack
from billing.terms import Price, Terms
from ledger import catalog as ledger_catalog
from ledger.catalog import RateFacts
from ledger.errors import Fault
from ledger.units import MICROTOKENS_PER_TOKEN
from ledger.value import Tiers, tiered_micros

# Of two ways to get a token, one is pointless if it costs this much more than the other.
POINTLESS_FROM: Final = Fraction(5, 4)

Severity = Literal["error", "warning"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """`code` never changes; `field` is where the form has it, as in billing.plan_faults."""

    code: str
    severity: Severity
    field: str
    sentence: str


@dataclass(frozen=True, kw_only=True)
class PackOffered:
    """A top-up pack, at its best price in one currency."""

    name: str
    currency: str
    micros: int
    microtokens: int
    validity_months: int

    @property
    def micros_per_token(self) -> Fraction:
        return _per_token(self.micros, self.microtokens)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """All that the rules look at."""

    terms: tuple[Terms, ...]  # in each currency that the version sells in
    rates: tuple[RateFacts, ...]
    engines: frozenset[str]
    meters: frozenset[str]
    packs: tuple[PackOffered, ...] = ()
    # By currency: what a token costs the vendor to serve. Empty where nothing is known of it.
    cost_micros_per_token: Mapping[str, int] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()


def of(*, subject: Subject) -> list[Finding]:
    """Every finding, errors first."""
    found = [finding for rule in RULES for finding in rule(subject)]
    return sorted(found, key=lambda finding: finding.severity)


def of_version(*, version: PlanVersion, prices: Sequence[Price], at: datetime) -> list[Finding]:
    """Of a version, saved or not, at these prices, as things are at `at`."""
    return of(subject=subject(version=version, prices=prices, at=at))


def subject(*, version: PlanVersion, prices: Sequence[Price], at: datetime) -> Subject:
    """Read what the rules look at."""
    faults = tuple(plan_faults.found(version=version, prices=prices))
    book_id = version.plan.vendor.book_id
    for_sale = TopUpPack.objects.filter(
        vendor_id=version.plan.vendor_id, published_at__lte=at, retired_at__isnull=True
    ).prefetch_related("prices", "plans")
    return Subject(
        # What can't be published can't be put together either.
        terms=()
        if faults
        else tuple(terms.put_together(version=version, price=price) for price in prices),
        rates=tuple(ledger_catalog.rates(rate_card_id=version.rate_card_id, at=at)),
        engines=ledger_catalog.engines(book_id=book_id),
        meters=ledger_catalog.meters(book_id=book_id),
        packs=tuple(
            offered
            for pack in for_sale
            if _is_beside(pack, version, at)
            for offered in _offered(pack)
        ),
        faults=faults,
    )


def errors_of(findings: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.severity == "error"]


def warnings_of(findings: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.severity == "warning"]


def _is_beside(pack: TopUpPack, version: PlanVersion, at: datetime) -> bool:
    """Whether customers of the plan can buy the pack, now or once its season comes."""
    plans = pack.plans.all()
    is_over = pack.season_until_on is not None and pack.season_until_on < at.date()
    return not is_over and (not plans or version.plan in plans)


def _offered(pack: TopUpPack) -> Iterator[PackOffered]:
    for currency in sorted({row.currency for row in packs.prices(pack=pack)}):
        offer = packs.in_currency(pack=pack, currency=currency)
        best = offer.quote(quantity=offer.quantity_max)
        yield PackOffered(
            name=pack.name,
            currency=currency,
            micros=money.to_micros(best.price),
            microtokens=best.microtokens + best.bonus_microtokens,
            validity_months=pack.validity_months,
        )


def _error(code: str, at: str, sentence: str) -> Finding:
    return Finding(code=code, severity="error", field=at, sentence=sentence)


def _warning(code: str, at: str, sentence: str) -> Finding:
    return Finding(code=code, severity="warning", field=at, sentence=sentence)


def _of_faults(subject: Subject) -> Iterator[Finding]:
    for fault in subject.faults:
        name = fault.field.rpartition(".")[2]
        told = f"{name.replace('_', ' ').capitalize()} {fault.message}."
        yield _error(f"{name}_{fault.rule}", fault.field, told)


def _of_rate_card(subject: Subject) -> Iterator[Finding]:
    if not subject.rates and not subject.faults:
        yield _warning(
            "rate_card_not_in_force",
            "rate_card_id",
            "The rate card has no rates yet: work waits, and is debited when they begin. Publish"
            " a version of it that is in force already.",
        )
    for engine in sorted({rate.engine for rate in subject.rates} - subject.engines - {""}):
        yield _error(
            "unknown_engine",
            "rate_card_id",
            f"The rate card prices the engine {engine}, which this vendor does not have: add the"
            " engine, or publish a version of the card without it.",
        )
    for meter in sorted({rate.meter for rate in subject.rates} - subject.meters):
        yield _error(
            "unknown_meter",
            "rate_card_id",
            f"The rate card prices the meter {meter}, which this vendor does not have: add the"
            " meter, or publish a version of the card without it.",
        )


def _of_unpriced_engines(subject: Subject) -> Iterator[Finding]:
    if not subject.rates or any(not rate.engine for rate in subject.rates):
        return
    for engine in sorted(subject.engines - {rate.engine for rate in subject.rates}):
        yield _warning(
            "engine_without_rate",
            "rate_card_id",
            f"No rate is for the engine {engine}: runs on it wait unpriced. Give it a rate, or one"
            " for any engine.",
        )


def _of_what_can_be_spent(subject: Subject) -> Iterator[Finding]:
    """Tokens that nothing costs, or of which nothing costs so few, are worth nothing."""
    if not subject.rates or not subject.terms:
        return
    granted = subject.terms[0].allotment_microtokens
    least = [rate.least_microtokens for rate in subject.rates if rate.least_microtokens]
    if not least:
        yield _error(
            "nothing_costs_tokens",
            "rate_card_id",
            "By this rate card nothing costs any tokens: choose another, or give it rates.",
        )
    elif granted and min(least) > granted:
        yield _error(
            "allotment_not_spendable",
            "allotment_microtokens",
            f"The smallest run costs {explain.tokens(min(least))}, more than the allotment of"
            f" {explain.tokens(granted)}: grant more tokens, or lower the rates.",
        )


def _of_free_things(subject: Subject) -> Iterator[Finding]:
    for one in subject.terms:
        paid = one.platform_fee + one.allotment_price + one.seat_price + one.commitment
        is_paid = paid.amount or _dearest(one.tiers)
        if not is_paid:
            yield _warning(
                "everything_free",
                f"prices.{one.currency}.platform_fee",
                f"In {one.currency} nothing of the plan costs anything: give it a price, or confirm"
                " that it is a gift.",
            )
        elif one.tiers is not None and one.tiers.steps and not one.tiers.steps[-1].micros_per_token:
            yield _warning(
                "overage_free_without_end",
                _overage_field(one),
                f"In {one.currency} the last tier costs nothing: from there on work is free without"
                " end. Give it a price, or a hard cap.",
            )


def _of_tiers(subject: Subject) -> Iterator[Finding]:
    for one in subject.terms:
        if one.tiers is None:
            continue
        for before, after in pairwise(one.tiers.steps):
            if before.micros_per_token == after.micros_per_token:
                bound = explain.tokens(before.up_to_microtokens or 0)
                yield _warning(
                    "tiers_alike",
                    _overage_field(one),
                    f"The tiers before and after {bound} cost the same in {one.currency}: make them"
                    " one, so that there is less to remember.",
                )
        yield from _of_cliffs(one, one.tiers)


def _of_cliffs(of: Terms, tiers: Tiers) -> Iterator[Finding]:
    """By volume a token more may make the term cheaper."""
    if tiers.model != "volume":
        return
    for step, following in pairwise(tiers.steps):
        bound = step.up_to_microtokens or 0
        whole = tiered_micros(tiers=tiers, out_microtokens=bound)
        after = bound + MICROTOKENS_PER_TOKEN
        if following.micros_per_token < step.micros_per_token:
            cheaper = tiered_micros(tiers=tiers, out_microtokens=after)
            yield _warning(
                "volume_falls",
                _overage_field(of),
                f"{explain.tokens(bound)} of overage cost {_text(whole, of)},"
                f" {explain.tokens(after)} only {_text(cheaper, of)}: customers gain by using"
                " more. Graduated tiers do not do this.",
            )


def _of_cap(subject: Subject) -> Iterator[Finding]:
    for one in subject.terms:
        cap = one.overage_cap_microtokens
        if cap is None or one.tiers is None:
            continue
        package = one.tiers.package
        first = package.microtokens if package else one.tiers.steps[0].up_to_microtokens
        if first is not None and cap < first:
            what = "a package" if package else "the first tier"
            yield _warning(
                "cap_below_first_tier",
                "overage_cap_microtokens",
                f"The cap of {explain.tokens(cap)} lies below {what} of {explain.tokens(first)}:"
                " what comes after is never reached. Raise the cap, or leave out the rest.",
            )


def _of_top_ups(subject: Subject) -> Iterator[Finding]:
    """Of two ways to get more tokens nobody who looks takes the dearer."""
    for one in subject.terms:
        overage = _dearest(one.tiers)
        for pack in subject.packs:
            if pack.currency != one.currency or not overage:
                continue
            if overage >= pack.micros_per_token * POINTLESS_FROM:
                yield _warning(
                    "overage_pointless",
                    _overage_field(one),
                    f"A token of overage costs {_each(overage, one)}, one in the pack “{pack.name}”"
                    f" {_each(pack.micros_per_token, one)}: nobody who looks would go beyond. Lower"
                    " the price of overage, or raise that of the pack.",
                )
            elif overage <= pack.micros_per_token:
                yield _warning(
                    "top_up_pointless",
                    _overage_field(one),
                    f"A token in the pack “{pack.name}” costs {_each(pack.micros_per_token, one)},"
                    f" one of overage {_each(overage, one)}: nobody who looks would buy the pack."
                    " Raise the price of overage, or lower that of the pack.",
                )


def _of_allotment_price(subject: Subject) -> Iterator[Finding]:
    for one in subject.terms:
        if not one.allotment_price.amount:
            continue
        paid = _per_token(money.to_micros(one.allotment_price), one.allotment_microtokens)
        overage = _dearest(one.tiers)
        if one.tiers is not None and overage < paid:
            yield _warning(
                "allotment_pointless",
                _overage_field(one),
                f"A token of the allotment costs {_each(paid, one)}, one beyond it"
                f" {_each(overage, one)}: who commits to tokens pays more than who does not. Raise"
                " the price of overage.",
            )
        for pack in subject.packs:
            if pack.currency == one.currency and pack.micros_per_token * POINTLESS_FROM <= paid:
                yield _warning(
                    "allotment_dearer_than_top_up",
                    f"prices.{one.currency}.allotment_price",
                    f"A token of the allotment costs {_each(paid, one)}, one in the pack"
                    f" “{pack.name}” {_each(pack.micros_per_token, one)}: who commits to tokens"
                    " pays more than who does not. Lower the price of the allotment, or raise that"
                    " of the pack.",
                )


def _of_currencies(subject: Subject) -> Iterator[Finding]:
    sold_in = {pack.name: set[str]() for pack in subject.packs}
    for pack in subject.packs:
        sold_in[pack.name].add(pack.currency)
    for one in subject.terms:
        missing = sorted(name for name, known in sold_in.items() if one.currency not in known)
        if missing and len(missing) == len(sold_in):
            yield _warning(
                "no_pack_in_currency",
                f"prices.{one.currency}.currency",
                f"Customers who pay in {one.currency} can buy no top-up: no pack has a price in it."
                " Give one of them such a price.",
            )


def _of_expiry(subject: Subject) -> Iterator[Finding]:
    if not subject.terms:
        return
    one = subject.terms[0]
    if one.welcome_microtokens and one.welcome_months < one.term_months:
        yield _warning(
            "gift_expires_before_term",
            "welcome_months",
            f"The gift is valid for {one.welcome_months} of the term's {one.term_months} months:"
            " it expires before the term ends. Let it live as long.",
        )
    for name in sorted(
        {pack.name for pack in subject.packs if pack.validity_months < one.term_months}
    ):
        yield _warning(
            "top_up_expires_before_term",
            "term_months",
            f"Tokens of the pack “{name}” expire before a term of {one.term_months} months ends:"
            " let the pack be valid longer.",
        )


def _of_alerts(subject: Subject) -> Iterator[Finding]:
    one = next(iter(subject.terms), None)
    if one is not None and one.allotment_microtokens and not one.alert_thresholds:
        yield _warning(
            "no_alerts",
            "alert_thresholds",
            "Nobody is told before the tokens run out: name thresholds, such as 70, 90 and 100.",
        )


def _of_sizes(subject: Subject) -> Iterator[Finding]:
    for one in subject.terms:
        for smaller, larger in pairwise(one.sizes_offered):
            dearer = pricing.discount_basis_points(
                micros=_micros(larger.allotment_price),
                microtokens=larger.allotment_microtokens,
                from_micros=_micros(smaller.allotment_price),
                from_microtokens=smaller.allotment_microtokens,
            )
            if smaller.allotment_price and dearer < 0:
                yield _warning(
                    "larger_size_dearer",
                    f"prices.{one.currency}.sizes.{larger.code}.allotment_price",
                    f"A token of {larger.name} costs more than one of {smaller.name} in"
                    f" {one.currency}: nobody who looks would take it. Lower its price.",
                )


def _of_cost(subject: Subject) -> Iterator[Finding]:
    """Where it is known what a token costs to serve."""
    for one in subject.terms:
        cost = subject.cost_micros_per_token.get(one.currency)
        if cost is None:
            continue
        sold = {f"prices.{one.currency}.allotment_price": _allotment_price(one)}
        if one.tiers is not None:
            sold[_overage_field(one)] = _cheapest(one.tiers)
        for at, price in sold.items():
            if price is not None and price < cost:
                yield _warning(
                    "below_cost",
                    at,
                    f"A token is sold at {_text(int(price), one)} and costs {_text(cost, one)} to"
                    " serve: raise the price, or confirm the loss.",
                )


def _of_complexity(subject: Subject) -> Iterator[Finding]:
    one = next(iter(subject.terms), None)
    if one is None:
        return
    found = complexity.of(terms=one)
    if found.is_too_much:
        reasons = "; ".join(f"{reason.sentence} ({reason.points})" for reason in found.reasons)
        yield _warning(
            "too_complex",
            "plan",
            f"There are {found.score} things to remember, and {complexity.SCORE_MAX} are the most"
            f" that a buyer repeats after one conversation: {reasons}. Leave one out.",
        )


RULES: Final[tuple[Callable[[Subject], Iterator[Finding]], ...]] = (
    _of_faults,
    _of_rate_card,
    _of_unpriced_engines,
    _of_what_can_be_spent,
    _of_free_things,
    _of_tiers,
    _of_cap,
    _of_top_ups,
    _of_allotment_price,
    _of_currencies,
    _of_expiry,
    _of_alerts,
    _of_sizes,
    _of_cost,
    _of_complexity,
)


def _overage_field(of: Terms) -> str:
    by_package = of.tiers is not None and of.tiers.package is not None
    return f"prices.{of.currency}.{'package_price' if by_package else 'overage_tiers'}"


def _prices(tiers: Tiers | None) -> list[Fraction]:
    if tiers is None:
        return []
    if tiers.package is not None:
        return [_per_token(tiers.package.micros, tiers.package.microtokens)]
    return [Fraction(step.micros_per_token) for step in tiers.steps]


def _dearest(tiers: Tiers | None) -> Fraction:
    return max(_prices(tiers), default=Fraction(0))


def _cheapest(tiers: Tiers) -> Fraction:
    return min(_prices(tiers))


def _allotment_price(of: Terms) -> Fraction | None:
    if not of.allotment_price.amount:
        return None
    return _per_token(money.to_micros(of.allotment_price), of.allotment_microtokens)


def _per_token(micros: int, microtokens: int) -> Fraction:
    return Fraction(micros * MICROTOKENS_PER_TOKEN, microtokens)


def _micros(amount: object) -> int:
    return int(Fraction(str(amount)) * 1_000_000)


def _text(micros: int, of: Terms) -> str:
    return money.price_text(micros, of.currency)


def _each(micros: Fraction, of: Terms) -> str:
    return _text(int(micros), of)
