"""A sheet for whoever sells a plan: what it says, what it costs, what to answer.

All of it follows from the terms. Scenarios are priced by the functions that bill; the example of a
return states what it assumes, and whoever sells may put the buyer's own figures in.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from djmoney.money import Money

from billing import costing, explain, money
from billing.costing import TermCost
from billing.explain import Explanation
from billing.terms import Terms
from ledger.catalog import UnitFacts
from ledger.units import MICROTOKENS_PER_TOKEN
from ledger.value import Tiers, tiered_micros

# Of the allotment, in per cent: where nothing is granted, of a thousand tokens.
SCENARIOS: Final = {"Light": 60, "Expected": 100, "Heavy": 140}
TOKENS_WITHOUT_ALLOTMENT: Final = 1_000 * MICROTOKENS_PER_TOKEN
SEATS: Final = 10


@dataclass(frozen=True, kw_only=True)
class Assumed:
    """What the example of a return assumes: cautious, until the buyer's own figures are known."""

    minutes_saved: Decimal = Decimal(2)  # by a token's work
    hourly_cost: Decimal = Decimal(40)  # of the person who did it


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A term at some use."""

    name: str
    share: int | None  # of the allotment, in per cent; None: it grants none
    cost: TermCost
    lines: tuple[tuple[str, Money], ...]
    each: Money | None  # what a token that was used has cost; None: too little to say
    left: str  # what becomes of tokens that are left, or were not granted


@dataclass(frozen=True, kw_only=True)
class Return:
    """What a term's work is worth, beside what it costs."""

    sentences: tuple[str, ...]
    value: Money
    cost: Money
    percent: int | None  # None: it costs nothing


@dataclass(frozen=True, kw_only=True)
class Sheet:
    terms: Terms
    explanation: Explanation
    scenarios: tuple[Scenario, ...]
    roi: Return
    answers: tuple[tuple[str, str], ...]  # to what buyers ask


def of(*, terms: Terms, unit: UnitFacts, assumed: Assumed) -> Sheet:
    """The sheet of a plan, in one currency and size. Works on a draft too."""
    base = terms.allotment_microtokens or TOKENS_WITHOUT_ALLOTMENT
    scenarios = tuple(
        _scenario(name, terms, base * share // 100, share) for name, share in SCENARIOS.items()
    )
    expected = scenarios[1].cost
    return Sheet(
        terms=terms,
        explanation=explain.explain(terms=terms, unit=unit),
        scenarios=scenarios,
        roi=_return(expected, assumed),
        answers=tuple(_answers(terms, scenarios)),
    )


def _scenario(name: str, terms: Terms, used: int, share: int) -> Scenario:
    whole = used - used % MICROTOKENS_PER_TOKEN or used
    cost = costing.of_term(terms=terms, used_microtokens=whole, seats=SEATS)
    return Scenario(
        name=name,
        share=share if terms.allotment_microtokens else None,
        cost=cost,
        lines=tuple(explain.bill_of(cost=cost)),
        each=_each(cost),
        left=" ".join(_of_what_is_left(cost)),
    )


def _each(cost: TermCost) -> Money | None:
    micros = money.to_micros(cost.total) * MICROTOKENS_PER_TOKEN // cost.used_microtokens
    each = money.rounded(micros, cost.terms.currency)
    return each if each.amount else None


def _of_what_is_left(cost: TermCost) -> Iterator[str]:
    if cost.rolled_microtokens:
        yield f"{explain.tokens(cost.rolled_microtokens)} roll over."
    if expired := cost.left_microtokens - cost.rolled_microtokens:
        yield f"{explain.tokens(expired)} expire."
    if cost.owed_microtokens:
        yield f"{explain.tokens(cost.owed_microtokens)} are repaid by the next tokens."


def _return(cost: TermCost, assumed: Assumed) -> Return:
    terms = cost.terms
    term = explain.term_of(terms)
    used = Decimal(cost.used_microtokens) / MICROTOKENS_PER_TOKEN
    hours = used * assumed.minutes_saved / 60
    value = _rounded(hours * assumed.hourly_cost, terms.currency)
    gain = value.amount - cost.total.amount
    percent = None if not cost.total.amount else round(gain * 100 / cost.total.amount)
    hourly = Money(assumed.hourly_cost, terms.currency)
    minutes = "minute" if assumed.minutes_saved == 1 else "minutes"
    sentences = [
        f"Assumed: the work of a token saves {assumed.minutes_saved:f} {minutes} of a person who"
        f" costs {money.text(hourly)} an hour; a {term} uses"
        f" {explain.tokens(cost.used_microtokens)}.",
        f"That is {hours:,.0f} hours, worth {money.text(value)}; the plan costs"
        f" {money.text(cost.total)}.",
    ]
    if percent is not None:
        back = money.text(abs(_money(gain, terms.currency)))
        sentences.append(
            f"Each {term} returns {back} more than it costs: {percent:,} %."
            if gain >= 0
            else f"Each {term} returns {back} less than it costs: it pays from more minutes on."
        )
    return Return(sentences=tuple(sentences), value=value, cost=cost.total, percent=percent)


def _answers(terms: Terms, scenarios: tuple[Scenario, ...]) -> Iterator[tuple[str, str]]:
    yield "What will we pay? Can it get out of hand?", " ".join(_of_predictability(terms))
    yield "What do we put into the budget?", " ".join(_of_budget(terms, scenarios))
    yield "What if we do not use our tokens?", " ".join(_of_expiry(terms, scenarios[0]))


def _of_predictability(terms: Terms) -> Iterator[str]:
    term = explain.term_of(terms)
    fixed = costing.of_term(terms=terms, used_microtokens=0, seats=SEATS)
    least = money.text(fixed.total)
    if terms.tiers is None:
        yield f"You pay {least} a {term}, whatever you use: nothing more is ever invoiced."
    elif terms.overage_cap_microtokens is not None:
        cap = terms.overage_cap_microtokens
        overage = money.rounded(_dearest(terms.tiers, cap), terms.currency)
        most = money.text(max(fixed.in_advance + overage, terms.commitment))
        yield f"You pay at least {least} a {term}, and at most {most}:"
        yield f"no more than {explain.tokens(cap)} beyond the allotment are invoiced."
    else:
        yield f"You pay {least} a {term}, and beyond that only for work that was done."
        yield "You can set hard limits for the account, a workflow, a project or a person."
    if terms.alert_thresholds:
        first = terms.alert_thresholds[0]
        yield f"We tell you as soon as {first} % of the allotment is used."


def _dearest(tiers: Tiers, cap_microtokens: int) -> int:
    """What overage costs at most up to a cap: by volume that may be at a bound before it."""
    bounds = [step.up_to_microtokens for step in tiers.steps]
    positions = [bound for bound in bounds if bound is not None and bound < cap_microtokens]
    return max(
        tiered_micros(tiers=tiers, out_microtokens=out) for out in (*positions, cap_microtokens)
    )


def _of_budget(terms: Terms, scenarios: tuple[Scenario, ...]) -> Iterator[str]:
    _, expected, heavy = (scenario.cost for scenario in scenarios)
    term = explain.term_of(terms)
    yield f"Plan for {money.text(expected.total)} a {term}"
    if heavy.total != expected.total:
        yield f"and keep {money.text(heavy.total - expected.total)} in reserve for a heavy one."
    else:
        yield "and no reserve: a heavy one costs the same."
    if expected.in_advance == expected.total:
        yield "All of it is invoiced in advance."
    elif expected.in_advance.amount:
        yield f"{money.text(expected.in_advance)} of it are invoiced in advance."
    yield "Each invoice comes with a statement by cost centre that adds up to the cent."


def _of_expiry(terms: Terms, light: Scenario) -> Iterator[str]:
    term = explain.term_of(terms)
    if not terms.allotment_microtokens:
        yield "There is nothing to lose: the plan invoices what was used, and grants no tokens."
        return
    share = explain.percent(terms.rollover_basis_points)
    used = explain.tokens(light.cost.used_microtokens)
    if terms.rollover_basis_points:
        yield f"Up to {share} of the allotment stay yours for one more {term}."
    else:
        yield f"They expire at the {term}'s end; a smaller allotment costs less."
    yield f"Who uses {used} of {explain.tokens(terms.allotment_microtokens)}: {light.left}"
    yield "A forecast in your portal shows in time what would be left."


def _rounded(amount: Decimal, currency: str) -> Money:
    return money.rounded(int(amount * 1_000_000), currency)


def _money(amount: Decimal, currency: str) -> Money:
    return Money(amount, currency)
