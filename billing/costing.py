"""What a term costs at some use: by the functions that the closing bills with.

For worked examples, scenarios and checks; nothing here reads or writes.
"""

from dataclasses import dataclass

from djmoney.money import Money

from billing import money, pricing
from billing.pricing import OveragePart
from billing.terms import Terms


@dataclass(frozen=True, kw_only=True)
class TermCost:
    """One term of a customer who has used so much of it, top-ups aside."""

    terms: Terms
    used_microtokens: int
    seats: int
    parts: tuple[OveragePart, ...]

    @property
    def seats_price(self) -> Money:
        return self.terms.seat_price * self.seats

    @property
    def in_advance(self) -> Money:
        return self.terms.platform_fee + self.seats_price + self.terms.allotment_price

    @property
    def overage_amounts(self) -> list[Money]:
        """Of each part, rounded as its line is."""
        return [money.rounded(part.micros, self.terms.currency) for part in self.parts]

    @property
    def overage(self) -> Money:
        return sum(self.overage_amounts, start=Money(0, self.terms.currency))

    @property
    def true_up(self) -> Money:
        missing = self.terms.commitment - self.in_advance - self.overage
        return max(missing, Money(0, self.terms.currency))

    @property
    def total(self) -> Money:
        return self.in_advance + self.overage + self.true_up

    @property
    def overage_microtokens(self) -> int:
        return sum(part.microtokens for part in self.parts)

    @property
    def owed_microtokens(self) -> int:
        """What is neither granted nor invoiced: the next tokens repay it."""
        beyond = max(0, self.used_microtokens - self.terms.allotment_microtokens)
        return beyond - self.overage_microtokens

    @property
    def left_microtokens(self) -> int:
        return max(0, self.terms.allotment_microtokens - self.used_microtokens)

    @property
    def rolled_microtokens(self) -> int:
        most = pricing.rollover_microtokens_max(
            allotment_microtokens=self.terms.allotment_microtokens,
            basis_points=self.terms.rollover_basis_points,
        )
        return min(self.left_microtokens, most)


def of_term(*, terms: Terms, used_microtokens: int, seats: int = 0) -> TermCost:
    """What a term comes to in which so much is used."""
    beyond = max(0, used_microtokens - terms.allotment_microtokens)
    if terms.overage_cap_microtokens is not None:
        beyond = min(beyond, terms.overage_cap_microtokens)
    parts = (
        ()
        if terms.tiers is None
        else pricing.overage_parts(tiers=terms.tiers, from_microtokens=0, to_microtokens=beyond)
    )
    return TermCost(
        terms=terms,
        used_microtokens=used_microtokens,
        seats=seats if terms.seat_price.amount else 0,
        parts=tuple(parts),
    )
