"""A plan in plain sentences and one worked example, from its data alone.

A buyer must be able to repeat it after one conversation. Nothing here is written for a particular
plan: whatever the numbers are, the sentences follow from them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Final

from djmoney.money import Money

from billing import costing, money, pricing
from billing.costing import TermCost
from billing.pricing import OveragePart
from billing.terms import Size, Terms
from ledger.catalog import UnitFacts
from ledger.units import MICROS_PER_UNIT_OF_MONEY, MICROTOKENS_PER_TOKEN, to_tokens
from ledger.value import Package, Tier, Tiers, packages_begun, tiered_micros

SEATS_OF_EXAMPLE = 10
SENTENCES_MAX = 8  # what a buyer can repeat after one conversation
TERMS = {1: "month", 3: "quarter", 12: "year"}


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What the plan says, and what somebody who is on it would see in one term."""

    sentences: tuple[str, ...]
    example: tuple[str, ...]


def explain(*, terms: Terms, unit: UnitFacts) -> Explanation:
    """The terms in sentences. Works on those of a draft too, saved or not."""
    about = [
        [unit.sentence.rstrip(".") + "."],
        [*_of_term(terms), *_of_fees(terms)],
        [_of_allotment(terms)],
        _of_gifts(terms),
        _of_overage(terms),
        _of_commitment(terms),
        _of_rollover(terms),
        _of_care(terms),
    ]
    sentences = [sentence for one in about for sentence in one]
    if len(sentences) > SENTENCES_MAX:
        sentences = [_as_one(one) for one in about if one]
    return Explanation(sentences=tuple(sentences), example=tuple(_example(terms)))


def _as_one(sentences: Sequence[str]) -> str:
    """What says something about one thing, as one sentence."""
    first, *others = (sentence.rstrip(".") for sentence in sentences)
    return "; ".join([first, *(other[0].lower() + other[1:] for other in others)]) + "."


def tokens(microtokens: int) -> str:
    """1 token, 1,500 tokens, 0.5 tokens."""
    amount = to_tokens(microtokens)
    number = f"{amount.normalize():,f}" if amount else "0"
    return f"{number} token" if amount == 1 else f"{number} tokens"


def percent(basis_points: int) -> str:
    return f"{Decimal(basis_points) / 100:f}".removesuffix(".00") + "\N{NO-BREAK SPACE}%"


def term_of(terms: Terms) -> str:
    """What a term is called."""
    return TERMS.get(terms.term_months, "term")


def _of_term(terms: Terms) -> list[str]:
    """How long it is, unless its very name says so."""
    if terms.term_months in TERMS:
        return []
    years, months = divmod(terms.term_months, 12)
    return [f"A term has {terms.term_months} months." if months else f"A term has {years} years."]


def _of_fees(terms: Terms) -> list[str]:
    term, fee, seat = term_of(terms), money.text(terms.platform_fee), money.text(terms.seat_price)
    if not terms.seat_price.amount:
        if not terms.platform_fee.amount:
            return []
        return [f"The platform costs {fee} a {term}, invoiced in advance."]
    if not terms.platform_fee.amount:
        return [f"Each seat costs {seat} a {term}, invoiced in advance."]
    return [f"The platform costs {fee} a {term} and {seat} for each seat, invoiced in advance."]


def _of_allotment(terms: Terms) -> str:
    term = term_of(terms)
    if terms.sizes_offered:
        return (
            f"Each {term} starts with the tokens of the size you choose, invoiced in advance"
            f"{' and yours as soon as that is paid' if terms.grants_on_payment else ''}:"
            f" {', '.join(_sizes(terms))}."
        )
    if not terms.allotment_microtokens:
        return "The plan itself grants no tokens."
    granted = tokens(terms.allotment_microtokens)
    if terms.grants_on_payment:
        each, paid = _price_of_a_token(terms), money.text(terms.allotment_price)
        return (
            f"Each {term} brings {granted} for {paid}, {each} a token: invoiced as it starts, and"
            " yours as soon as that is paid."
        )
    if not terms.allotment_price.amount:
        return f"Each {term} starts with {granted}, included in the plan."
    each = _price_of_a_token(terms)
    paid = money.text(terms.allotment_price)
    return f"Each {term} starts with {granted} for {paid}, invoiced in advance: {each} a token."


def _sizes(terms: Terms) -> list[str]:
    """Small 1,000 tokens for €100.00; each other one with what it saves against the first."""
    smallest = terms.sizes_offered[0]
    return [
        f"{size.name} {tokens(size.allotment_microtokens)}"
        f" for {money.text(Money(size.allotment_price, terms.currency))}"
        f"{saving(size, against=smallest)}"
        for size in terms.sizes_offered
    ]


def saving(size: Size, *, against: Size) -> str:
    """(10 % less a token), in brackets; nothing if there is no difference to tell."""
    if size == against or not against.allotment_price:
        return ""
    discount = pricing.discount_basis_points(
        micros=int(size.allotment_price * MICROS_PER_UNIT_OF_MONEY),
        microtokens=size.allotment_microtokens,
        from_micros=int(against.allotment_price * MICROS_PER_UNIT_OF_MONEY),
        from_microtokens=against.allotment_microtokens,
    )
    if not discount:
        return ""
    return f" ({percent(abs(discount))} {'less' if discount > 0 else 'more'} a token)"


def _of_gifts(terms: Terms) -> list[str]:
    trial, gift = tokens(terms.trial_microtokens), tokens(terms.welcome_microtokens)
    before = f"You first try it for {_days(terms.trial_days)}" if terms.trial_days else ""
    if before and terms.trial_microtokens:
        before += f" with {trial} for free, which expire with the trial"
    elif before:
        before += " for free"
    if not terms.welcome_microtokens:
        return [f"{before}."] if before else []
    given = f"{gift} valid for {_months(terms.welcome_months)} are a gift"
    return [f"{before}; another {given}." if before else f"{given[0].upper()}{given[1:]}, once."]


def _days(days: int) -> str:
    return "1 day" if days == 1 else f"{days} days"


def _months(months: int) -> str:
    return "1 month" if months == 1 else f"{months} months"


def _price_of_a_token(terms: Terms) -> str:
    micros = money.to_micros(terms.allotment_price)
    exact, rest = divmod(micros * MICROTOKENS_PER_TOKEN, terms.allotment_microtokens)
    about = "about " if rest else ""
    return about + money.price_text(exact, terms.currency)


def _of_overage(terms: Terms) -> list[str]:
    term = term_of(terms)
    if terms.tiers is None:
        return [
            "Work that is done beyond your tokens is not invoiced:"
            " the next tokens you receive repay it."
        ]
    priced = _PRICED[terms.tiers.model](terms.tiers, terms.currency)
    sentences = [f"Tokens used beyond that are invoiced after the {term}'s end{priced}."]
    if terms.overage_cap_microtokens is not None:
        cap = tokens(terms.overage_cap_microtokens)
        sentences.append(
            f"At most {cap} a {term} are invoiced this way;"
            " what is used beyond is repaid by the next tokens you receive."
        )
    return [*sentences, *_of_soft_cap(terms)]


def _of_soft_cap(terms: Terms) -> list[str]:
    soft = terms.overage_soft_cap_microtokens
    if soft is None:
        return []
    much = f"more than {tokens(soft)} of that in a {term_of(terms)}" if soft else "any of that"
    return [f"New work that would use {much} waits until somebody allows it."]


def _graduated(tiers: Tiers, currency: str) -> str:
    if len(tiers.steps) == 1:
        return f": {_flat(tiers.steps[0], currency)}"
    starts = [0, *(step.up_to_microtokens or 0 for step in tiers.steps[:-1])]
    steps = ", then ".join(
        _step_text(step, currency, start) for step, start in zip(tiers.steps, starts, strict=True)
    )
    return f", each at the price of its own tier (graduated): {steps}"


def _flat(step: Tier, currency: str) -> str:
    if not step.micros_per_token:
        return "all of them free"
    return f"{money.price_text(step.micros_per_token, currency)} a token"


def _step_text(step: Tier, currency: str, start: int) -> str:
    price = money.price_text(step.micros_per_token, currency) if step.micros_per_token else ""
    if step.up_to_microtokens is None:
        return f"{price} for each further token" if price else "each further token free"
    first = "the first " if start == 0 else "the next "
    each = f"at {price} each" if price else "free"
    return f"{first}{tokens(step.up_to_microtokens - start)} {each}"


def _volume(tiers: Tiers, currency: str) -> str:
    if len(tiers.steps) == 1:
        return f": {_flat(tiers.steps[0], currency)}"
    steps = ", ".join(_reach_text(step, currency) for step in tiers.steps)
    return f", all of them at one price that their number decides (volume): {steps}"


def _reach_text(step: Tier, currency: str) -> str:
    up_to = step.up_to_microtokens
    reach = "beyond that" if up_to is None else f"up to {tokens(up_to)}"
    if not step.micros_per_token:
        return f"{reach} free"
    return f"{reach} {money.price_text(step.micros_per_token, currency)} each"


def _package(tiers: Tiers, currency: str) -> str:
    assert tiers.package is not None
    price = money.price_text(tiers.package.micros, currency)
    each = tokens(tiers.package.microtokens)
    return f" by the package: {price} for each package of {each} that is begun"


_PRICED: Final = {"graduated": _graduated, "volume": _volume, "package": _package}


def at_price(micros_per_token: int, currency: str) -> str:
    """At €0.02, or free."""
    return f"at {money.price_text(micros_per_token, currency)}" if micros_per_token else "free"


def overage_text(*, tiers: Tiers, part: OveragePart, currency: str) -> str:
    """What a line of overage is for. It may go on from what was billed before."""
    if tiers.package is not None:
        return _packages_text(tiers.package, part, currency)
    price = at_price(part.price_micros, currency)
    if tiers.model == "graduated" or len(tiers.steps) == 1:
        return f"{tokens(part.microtokens)} {price}"
    if not part.from_microtokens:
        return f"{tokens(part.microtokens)}, all {price}"
    less = "less" if part.microtokens < 0 else "more"
    before, after = (
        money.price_text(tiered_micros(tiers=tiers, out_microtokens=out), currency)
        for out in (part.from_microtokens, part.to_microtokens)
    )
    return (
        f"{tokens(abs(part.microtokens))} {less}: all {tokens(part.to_microtokens)} {price} come"
        f" to {after}, of which {before} stand on invoices"
    )


def _packages_text(package: Package, part: OveragePart, currency: str) -> str:
    before, after = (
        packages_begun(package=package, out_microtokens=out)
        for out in (part.from_microtokens, part.to_microtokens)
    )
    size, more = tokens(package.microtokens), " more" if before else ""
    used = f"{tokens(part.microtokens)}{more}"
    if before == after:
        return f"{used}, in a package of {size} that stands on an invoice"
    count = after - before
    packages = f"{count}{more} package{'s' * (count > 1)} of {size}"
    return f"{used}: {packages} {at_price(part.price_micros, currency)} each"


def _of_commitment(terms: Terms) -> list[str]:
    if not terms.commitment.amount:
        return []
    term, least = term_of(terms), money.text(terms.commitment)
    return [
        f"Each {term} comes to {least} at least: if platform fee, allotment and overage together do"
        f" not, the rest is invoiced after the {term}'s end."
    ]


def _of_rollover(terms: Terms) -> list[str]:
    if not terms.allotment_microtokens:
        return []
    term = term_of(terms)
    if not terms.rollover_basis_points:
        return [f"Tokens of the allotment that are left at the {term}'s end expire."]
    share, most = percent(terms.rollover_basis_points), tokens(_rollover_max(terms))
    return [
        f"Of the tokens left at the {term}'s end up to {most} ({share} of the allotment) stay"
        f" yours for one more {term}; the rest expire."
    ]


def _of_care(terms: Terms) -> list[str]:
    """That people are told in time, and that work of the last minute counts."""
    told, waited = _told_at(terms.alert_thresholds), _waited(terms.grace)
    if told and waited:
        return [f"We tell you when {told} is used, and wait {waited} for late work."]
    if told:
        return [f"We tell you when {told} is used."]
    return [f"Work of the last minute counts: we wait {waited} for it."] if waited else []


def _waited(grace: timedelta) -> str:
    hours = int(grace.total_seconds()) // 3600
    if not hours:
        return ""
    return f"{hours} hours" if hours < 72 else f"{hours // 24} days"


def _told_at(thresholds: Sequence[int]) -> str:
    if not thresholds:
        return ""
    marks = [f"{threshold}\N{NO-BREAK SPACE}%" for threshold in thresholds]
    named = marks[0] if len(marks) == 1 else f"{', '.join(marks[:-1])} and {marks[-1]}"
    return f"{named} of the allotment"


def _rollover_max(terms: Terms) -> int:
    return pricing.rollover_microtokens_max(
        allotment_microtokens=terms.allotment_microtokens,
        basis_points=terms.rollover_basis_points,
    )


def _example(terms: Terms) -> list[str]:
    """One term in which more was used than granted, if that is invoiced; else one with less."""
    if terms.tiers is not None:
        return _example_of_overage(terms, terms.tiers)
    if terms.allotment_microtokens:
        return _example_of_rollover(terms)
    return []


def _example_of_overage(terms: Terms, tiers: Tiers) -> list[str]:
    used = terms.allotment_microtokens + _overage_of_example(terms, tiers)
    cost = costing.of_term(terms=terms, used_microtokens=used, seats=SEATS_OF_EXAMPLE)
    return [
        f"Example: {_case(terms)} you use {tokens(used)}.",
        *[f"{what}: {money.text(amount)}." for what, amount in bill_of(cost=cost)],
        f"Together {money.text(cost.total)}.",
    ]


def bill_of(*, cost: TermCost) -> list[tuple[str, Money]]:
    """What stands on the invoices of a term, line by line."""
    terms, lines = cost.terms, []
    if terms.platform_fee.amount:
        lines.append(("Platform fee", terms.platform_fee))
    if cost.seats_price.amount:
        lines.append((f"{cost.seats} seats", cost.seats_price))
    if terms.allotment_price.amount:
        granted = tokens(terms.allotment_microtokens)
        lines.append((f"Allotment of {granted}", terms.allotment_price))
    for part, amount in zip(cost.parts, cost.overage_amounts, strict=True):
        assert terms.tiers is not None
        what = overage_text(tiers=terms.tiers, part=part, currency=terms.currency)
        lines.append((f"Overage, {what}", amount))
    if cost.true_up.amount:
        lines.append((f"True-up to {money.text(terms.commitment)}", cost.true_up))
    return lines


def _case(terms: Terms) -> str:
    seats = f" with {SEATS_OF_EXAMPLE} seats" if terms.seat_price.amount else ""
    size = f" in size {terms.size.name}" if terms.sizes_offered and terms.size else ""
    return f"in a {term_of(terms)}{size}{seats}"


def _overage_of_example(terms: Terms, tiers: Tiers) -> int:
    """A round amount that reaches into the second tier, or package, but not beyond the hard cap."""
    first = tiers.package.microtokens if tiers.package else tiers.steps[0].up_to_microtokens
    if first is not None:
        over = first + max(MICROTOKENS_PER_TOKEN, first // 2)
    else:
        over = max(100 * MICROTOKENS_PER_TOKEN, terms.allotment_microtokens // 10)
    over -= over % MICROTOKENS_PER_TOKEN
    over = max(over, MICROTOKENS_PER_TOKEN)
    cap = terms.overage_cap_microtokens
    return over if cap is None else min(over, cap)


def _example_of_rollover(terms: Terms) -> list[str]:
    granted = terms.allotment_microtokens
    cost = costing.of_term(terms=terms, used_microtokens=granted * 7 // 10, seats=SEATS_OF_EXAMPLE)
    used, rolled = cost.used_microtokens, cost.rolled_microtokens
    missing = (
        [f"True-up to {money.text(terms.commitment)}: {money.text(cost.true_up)}."]
        if cost.true_up.amount
        else []
    )
    return [
        f"Example: {_case(terms)} you use {tokens(used)} of {tokens(granted)}.",
        *missing,
        f"You pay {money.text(cost.total)}.",
        f"{tokens(rolled).capitalize()} stay yours for one more {term_of(terms)},"
        f" {tokens(cost.left_microtokens - rolled)} expire.",
    ]
