"""What overage costs, line by line, how an amount is shared out, and how much rolls over.

Overage counts from the period's first token of it: the included tokens are the allotment's
business. By whichever model, the cost of a stretch telescopes (ledger.value), so stretches add up
to the cost of the whole, wherever they are cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ledger.units import MICROS_PER_UNIT_OF_MONEY, MICROTOKENS_PER_TOKEN, UNBOUNDED_MICROTOKENS
from ledger.value import Tiers, tiered_slice_micros

WHOLE_BASIS_POINTS: Final = 10_000
# One term's overage costs at most a trillion, so that a line of it fits its row.
OVERAGE_MICROS_MAX: Final = 1_000_000_000_000 * MICROS_PER_UNIT_OF_MONEY


@dataclass(frozen=True, kw_only=True)
class OveragePart:
    """What of a stretch of overage stands on one line.

    Graduated, it is what lies in one tier; by volume and by the package it is the whole stretch.
    """

    from_microtokens: int
    to_microtokens: int
    price_micros: int  # of a token, or of a package
    micros: int

    @property
    def microtokens(self) -> int:
        """Less than nothing if more was billed before than is used."""
        return self.to_microtokens - self.from_microtokens


def overage_microtokens_max(*, tiers: Tiers) -> int:
    """How much overage of a term can be invoiced, even without a hard cap: what amounts can hold.

    With a million for each token these are a million tokens, with a euro a trillion.
    """
    package, prices = tiers.package, [step.micros_per_token for step in tiers.steps]
    dearest = package.micros if package else max(prices)
    if not dearest:
        return UNBOUNDED_MICROTOKENS
    if package:
        most = OVERAGE_MICROS_MAX // dearest * package.microtokens
    else:
        most = OVERAGE_MICROS_MAX * MICROTOKENS_PER_TOKEN // dearest
    return min(UNBOUNDED_MICROTOKENS, most)


def overage_parts(*, tiers: Tiers, from_microtokens: int, to_microtokens: int) -> list[OveragePart]:
    """A stretch of overage, `from_` (inclusive) to `to_` (exclusive), as its lines have it."""
    if from_microtokens == to_microtokens:
        return []
    if tiers.model == "graduated" and from_microtokens < to_microtokens:
        return _parts_by_step(tiers, from_microtokens, to_microtokens)
    price = (
        tiers.package.micros if tiers.package else tiers.reached(to_microtokens).micros_per_token
    )
    return [_part(tiers, from_microtokens, to_microtokens, price)]


def _parts_by_step(tiers: Tiers, from_microtokens: int, to_microtokens: int) -> list[OveragePart]:
    parts = []
    start = from_microtokens
    for step in tiers.steps:
        bound = to_microtokens if step.up_to_microtokens is None else step.up_to_microtokens
        end = min(bound, to_microtokens)
        if end > start:
            parts.append(_part(tiers, start, end, step.micros_per_token))
            start = end
    assert start == to_microtokens, "the last tier has no end"
    return parts


def _part(tiers: Tiers, start: int, end: int, price_micros: int) -> OveragePart:
    return OveragePart(
        from_microtokens=start,
        to_microtokens=end,
        price_micros=price_micros,
        micros=tiered_slice_micros(tiers=tiers, out_before=start, out_after=end),
    )


def rollover_microtokens_max(*, allotment_microtokens: int, basis_points: int) -> int:
    """How much of an allotment may roll over: a share of what was granted, rounded down."""
    return allotment_microtokens * basis_points // WHOLE_BASIS_POINTS


def discount_basis_points(
    *, micros: int, microtokens: int, from_micros: int, from_microtokens: int
) -> int:
    """How much less a token costs than another does, rounded down; negative: how much more."""
    assert microtokens > 0
    assert from_micros > 0
    return WHOLE_BASIS_POINTS - -(
        -(micros * from_microtokens * WHOLE_BASIS_POINTS) // (from_micros * microtokens)
    )


def allocate(*, total: int, weights: Sequence[int]) -> list[int]:
    """Share out a total in proportion to weights; the shares are whole and add up to it.

    Each gets its share rounded down; what is left goes by one to those who lost most by that,
    the first of equals first (largest remainder).
    """
    assert total >= 0
    assert all(weight >= 0 for weight in weights)
    whole = sum(weights)
    assert whole > 0
    shares = [total * weight // whole for weight in weights]
    lost = [total * weight % whole for weight in weights]
    by_loss = sorted(range(len(weights)), key=lambda position: -lost[position])
    for position in by_loss[: total - sum(shares)]:
        shares[position] += 1
    return shares
