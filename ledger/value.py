"""What a slice of a lot is worth.

The tokens of a lot are numbered in the order in which they leave it, 0 to granted, whatever they
leave it for. A slice runs from `out_before` to `out_after`. The worth of the first `out` tokens is
rounded down, once; a slice is the difference of two such amounts. So slices never overlap, never
leave a gap, and add up to the lot's price however many they are.

An overage lot has no price but tiers (graduated): the first token of the period's overage is
number 0. Its slices telescope in the same way.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ledger.units import MICROTOKENS_PER_TOKEN, Micros


@dataclass(frozen=True, kw_only=True)
class Tier:
    """One step of a graduated price: tokens up to `up_to_microtokens` (exclusive; None: no end)."""

    up_to_microtokens: int | None
    micros_per_token: int

    @staticmethod
    def of_json(tiers: str) -> "tuple[Tier, ...]":
        """Tiers as a lot has them: [[up_to_microtokens, micros_per_token], …]."""
        return tuple(
            Tier(up_to_microtokens=up_to, micros_per_token=micros)
            for up_to, micros in json.loads(tiers)
        )


def prepaid_micros(*, price_micros: int, granted_microtokens: int, out_microtokens: int) -> int:
    """Micros that the first `out_microtokens` of a prepaid lot are worth."""
    assert 0 <= out_microtokens <= granted_microtokens
    assert granted_microtokens > 0
    return price_micros * out_microtokens // granted_microtokens


def prepaid_slice_micros(
    *, price_micros: int, granted_microtokens: int, out_before: int, out_after: int
) -> Micros:
    """Worth of a slice of a prepaid lot; negative when tokens come back (after < before)."""
    before, after = (
        prepaid_micros(
            price_micros=price_micros, granted_microtokens=granted_microtokens, out_microtokens=out
        )
        for out in (out_before, out_after)
    )
    return Micros(after - before)


def tiered_micros(*, tiers: Sequence[Tier], out_microtokens: int) -> int:
    """Micros that the first `out_microtokens` of overage cost. Rounded down once, at the end."""
    assert tiers
    assert tiers[-1].up_to_microtokens is None
    assert out_microtokens >= 0
    product = start = 0
    for tier in tiers:
        end = out_microtokens if tier.up_to_microtokens is None else tier.up_to_microtokens
        reached = min(end, out_microtokens)
        if reached <= start:
            break
        product += (reached - start) * tier.micros_per_token
        start = reached
    return product // MICROTOKENS_PER_TOKEN


def tiered_slice_micros(*, tiers: Sequence[Tier], out_before: int, out_after: int) -> Micros:
    """Cost of a slice of overage."""
    return Micros(
        tiered_micros(tiers=tiers, out_microtokens=out_after)
        - tiered_micros(tiers=tiers, out_microtokens=out_before)
    )


def slice_micros(
    *,
    price_micros: int,
    granted_microtokens: int,
    tiers: Sequence[Tier] | None,
    out_before: int,
    out_after: int,
) -> Micros:
    """Worth of a slice of any lot: by its tiers if it has some, else by its price (0: nothing)."""
    if tiers is not None:
        return tiered_slice_micros(tiers=tiers, out_before=out_before, out_after=out_after)
    if price_micros == 0:
        return Micros(0)
    return prepaid_slice_micros(
        price_micros=price_micros,
        granted_microtokens=granted_microtokens,
        out_before=out_before,
        out_after=out_after,
    )


def prepaid_micros_of_all(
    price_micros: npt.NDArray[np.int64],
    granted_microtokens: npt.NDArray[np.int64],
    out_microtokens: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """`prepaid_micros`, element by element, for prices and lots of at most 10^15.

    The product needs 100 bits. A float says the quotient to within one or two; the remainder that
    this leaves is small, so it is exact even though its terms overflow (integers wrap around), and
    it says by how much the quotient is off.
    """
    whole, rest = np.divmod(price_micros, granted_microtokens)
    quotient = (rest * (out_microtokens / granted_microtokens)).astype(np.int64)
    remainder = rest * out_microtokens - quotient * granted_microtokens
    corrected: npt.NDArray[np.int64] = (
        whole * out_microtokens + quotient + np.floor_divide(remainder, granted_microtokens)
    )
    return corrected
