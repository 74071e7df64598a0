"""What a slice of a lot is worth.

The tokens of a lot are numbered in the order in which they leave it, 0 to granted, whatever they
leave it for. A slice runs from `out_before` to `out_after`. The worth of the first `out` tokens is
rounded down, once; a slice is the difference of two such amounts. So slices never overlap, never
leave a gap, and add up to the lot's price however many they are.

An overage lot has no price but tiers, of one of three models: the first token of the period's
overage is number 0, and what the first `out` tokens are worth is still a function of `out` alone.
So its slices telescope in the same way. By volume that function may fall, where a tier begins that
has a lower price: a slice that crosses such a bound is worth less than nothing, by what the tokens
before it become cheaper.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from ledger.units import MICROTOKENS_PER_TOKEN, Micros

TierModel = Literal["graduated", "volume", "package"]


@dataclass(frozen=True, kw_only=True)
class Tier:
    """One step of a price: tokens up to `up_to_microtokens` (exclusive; None: no end)."""

    up_to_microtokens: int | None
    micros_per_token: int


@dataclass(frozen=True, kw_only=True)
class Package:
    """So many tokens, sold together."""

    microtokens: int
    micros: int


@dataclass(frozen=True, kw_only=True)
class Tiers:
    """What overage costs, by one of three models:

    graduated   each token has the price of the step in which it lies
    volume      all tokens have the price of the step that the last of them lies in
    package     each package that is begun has its price: it has no steps
    """

    model: TierModel = "graduated"
    steps: tuple[Tier, ...] = ()
    package: Package | None = None

    def __post_init__(self) -> None:
        assert (self.model == "package") == (self.package is not None)
        assert (self.model == "package") == (not self.steps)
        assert not self.steps or self.steps[-1].up_to_microtokens is None

    @staticmethod
    def of_json(text: str) -> "Tiers":
        return Tiers.of(json.loads(text))

    @staticmethod
    def of(written: Mapping[str, Any]) -> "Tiers":
        """As a lot has them."""
        package = written.get("package")
        return Tiers(
            model=written["model"],
            steps=tuple(
                Tier(up_to_microtokens=up_to, micros_per_token=micros)
                for up_to, micros in written.get("steps", ())
            ),
            package=package and Package(microtokens=package[0], micros=package[1]),
        )

    def written(self) -> dict[str, Any]:
        if self.package is not None:
            return {"model": self.model, "package": [self.package.microtokens, self.package.micros]}
        steps = [[step.up_to_microtokens, step.micros_per_token] for step in self.steps]
        return {"model": self.model, "steps": steps}

    def reached(self, out_microtokens: int) -> Tier:
        """The step in which the last of so many tokens lies; of none, the first."""
        return next(
            step
            for step in self.steps
            if step.up_to_microtokens is None or out_microtokens <= step.up_to_microtokens
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


def tiered_micros(*, tiers: Tiers, out_microtokens: int) -> int:
    """Micros that the first `out_microtokens` of overage cost. Rounded down once, at the end."""
    assert out_microtokens >= 0
    return _WORTH[tiers.model](tiers, out_microtokens)


def packages_begun(*, package: Package, out_microtokens: int) -> int:
    """How many packages so many tokens have begun: a full one does not begin the next."""
    return -(-out_microtokens // package.microtokens)


def _graduated_micros(tiers: Tiers, out_microtokens: int) -> int:
    product = start = 0
    for tier in tiers.steps:
        end = out_microtokens if tier.up_to_microtokens is None else tier.up_to_microtokens
        reached = min(end, out_microtokens)
        if reached <= start:
            break
        product += (reached - start) * tier.micros_per_token
        start = reached
    return product // MICROTOKENS_PER_TOKEN


def _volume_micros(tiers: Tiers, out_microtokens: int) -> int:
    price = tiers.reached(out_microtokens).micros_per_token
    return out_microtokens * price // MICROTOKENS_PER_TOKEN


def _package_micros(tiers: Tiers, out_microtokens: int) -> int:
    assert tiers.package is not None
    begun = packages_begun(package=tiers.package, out_microtokens=out_microtokens)
    return begun * tiers.package.micros


_WORTH: Final = {
    "graduated": _graduated_micros,
    "volume": _volume_micros,
    "package": _package_micros,
}


def tiered_slice_micros(*, tiers: Tiers, out_before: int, out_after: int) -> Micros:
    """Cost of a slice of overage; by volume it may be less than nothing."""
    return Micros(
        tiered_micros(tiers=tiers, out_microtokens=out_after)
        - tiered_micros(tiers=tiers, out_microtokens=out_before)
    )


def slice_micros(
    *,
    price_micros: int,
    granted_microtokens: int,
    tiers: Tiers | None,
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
