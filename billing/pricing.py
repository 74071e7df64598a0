"""What overage costs, tier by tier, how an amount is shared out, and how much rolls over.

Tiers are graduated and count from the period's first token of overage: the included tokens are
the allotment's business. The cost of a stretch telescopes (ledger.value), so stretches add up to
the cost of the whole, wherever they are cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ledger.units import MICROS_PER_UNIT_OF_MONEY, MICROTOKENS_PER_TOKEN, UNBOUNDED_MICROTOKENS
from ledger.value import Tier, Tiers, tiered_slice_micros

WHOLE_BASIS_POINTS: Final = 10_000
# One term's overage costs at most a trillion, so that a line of it fits its row.
OVERAGE_MICROS_MAX: Final = 1_000_000_000_000 * MICROS_PER_UNIT_OF_MONEY


@dataclass(frozen=True, kw_only=True)
class OverageSlice:
    """The part of a stretch of overage that lies in one tier."""

    from_microtokens: int
    to_microtokens: int
    micros_per_token: int
    micros: int

    @property
    def microtokens(self) -> int:
        return self.to_microtokens - self.from_microtokens


def overage_microtokens_max(*, tiers: Sequence[Tier]) -> int:
    """How much overage of a term can be invoiced, even without a hard cap: what amounts can hold.

    With a million for each token these are a million tokens, with a euro a trillion.
    """
    dearest = max((tier.micros_per_token for tier in tiers), default=0)
    if not dearest:
        return UNBOUNDED_MICROTOKENS
    return min(UNBOUNDED_MICROTOKENS, OVERAGE_MICROS_MAX * MICROTOKENS_PER_TOKEN // dearest)


def overage_slices(
    *, tiers: Sequence[Tier], from_microtokens: int, to_microtokens: int
) -> list[OverageSlice]:
    """A stretch of overage, `from_` (inclusive) to `to_` (exclusive), cut at the tiers' bounds."""
    assert 0 <= from_microtokens <= to_microtokens
    slices = []
    start = from_microtokens
    for tier in tiers:
        bound = to_microtokens if tier.up_to_microtokens is None else tier.up_to_microtokens
        end = min(bound, to_microtokens)
        if end <= start:
            continue
        slices.append(
            OverageSlice(
                from_microtokens=start,
                to_microtokens=end,
                micros_per_token=tier.micros_per_token,
                micros=tiered_slice_micros(
                    tiers=Tiers(steps=tuple(tiers)), out_before=start, out_after=end
                ),
            )
        )
        start = end
    assert start == to_microtokens, "the last tier has no end"
    return slices


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
