"""How many rules of a plan a buyer has to remember.

A buyer must be able to repeat a plan after one conversation: that is about nine things. Each rule
counts for what has to be kept in mind to tell what a term will cost and what becomes of what is
left. What needs no remembering (when people are told, how long late work is awaited, that the plan
has a price in other currencies, too) counts nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from billing.pricing import WHOLE_BASIS_POINTS
from billing.terms import Terms
from ledger.value import Tiers

SCORE_MAX: Final = 9


@dataclass(frozen=True, kw_only=True)
class Reason:
    """A rule, and how many things it is to remember."""

    points: int
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Complexity:
    reasons: tuple[Reason, ...]

    @property
    def score(self) -> int:
        return sum(reason.points for reason in self.reasons)

    @property
    def is_too_much(self) -> bool:
        return self.score > SCORE_MAX


def of(*, terms: Terms) -> Complexity:
    """The plan's score, with its reasons, the weightiest first."""
    found = [
        *_of_prices(terms),
        *_of_overage(terms),
        *_of_what_is_left(terms),
        *_of_gifts(terms),
    ]
    return Complexity(reasons=tuple(sorted(found, key=lambda reason: -reason.points)))


def _of_prices(terms: Terms) -> Iterator[Reason]:
    if terms.platform_fee.amount:
        yield Reason(points=1, sentence="a platform fee")
    if terms.seat_price.amount:
        yield Reason(points=1, sentence="a price for each seat")
    if terms.sizes_offered:
        yield Reason(points=2, sentence="tokens in sizes, of which one is chosen")
    elif terms.allotment_microtokens:
        yield Reason(points=1, sentence="tokens granted each term")
    if terms.commitment.amount:
        yield Reason(points=2, sentence="a commitment, and what counts towards it")


def _of_overage(terms: Terms) -> Iterator[Reason]:
    if terms.tiers is None:
        yield Reason(points=1, sentence="what is used beyond the tokens is owed in tokens")
        return
    yield _of_tiers(terms.tiers)
    if terms.overage_cap_microtokens is not None:
        yield Reason(points=1, sentence="a cap of what is invoiced beyond the tokens")


def _of_tiers(tiers: Tiers) -> Reason:
    count = len(tiers.steps)
    if tiers.package is not None:
        return Reason(points=2, sentence="overage by the package: its size and its price")
    if count == 1:
        return Reason(points=1, sentence="one price for overage")
    if tiers.model == "volume":
        return Reason(
            points=count + 1,
            sentence=f"{count} prices of overage, and that one of them holds for all tokens",
        )
    return Reason(points=count, sentence=f"{count} prices of overage, each for its own tier")


def _of_what_is_left(terms: Terms) -> Iterator[Reason]:
    if not terms.allotment_microtokens:
        return
    if 0 < terms.rollover_basis_points < WHOLE_BASIS_POINTS:
        yield Reason(points=2, sentence="a share of what is left rolls over, the rest expires")
    else:
        what = "expires" if not terms.rollover_basis_points else "rolls over"
        yield Reason(points=1, sentence=f"what is left {what}")


def _of_gifts(terms: Terms) -> Iterator[Reason]:
    if terms.trial_days:
        yield Reason(points=1, sentence="a trial before the first term")
    if terms.welcome_microtokens:
        yield Reason(points=1, sentence="a gift with a life of its own")
