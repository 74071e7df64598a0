"""Why overage costs what nobody would expect: nothing, or less than nothing. In words.

For receipts. What a stretch is worth is said by ledger.value; here are the sentences for it.
"""

from typing import Final

from ledger.units import MICROS_PER_UNIT_OF_MONEY, MICROTOKENS_PER_TOKEN, tokens_text
from ledger.value import Tier, Tiers, tiered_slice_micros


def why(*, tiers: Tiers, out_before: int, out_after: int, currency: str) -> str:
    """A sentence on the stretch of overage between two positions; nothing if it is plain.

    Tokens that are given back run from a position to a smaller one.
    """
    return _WHY[tiers.model](tiers, out_before, out_after, currency)


def _graduated(tiers: Tiers, out_before: int, out_after: int, currency: str) -> str:
    first, last = sorted((out_before, out_after))
    if tiered_slice_micros(tiers=tiers, out_before=first, out_after=last) or first == last:
        return ""
    if tiers.reached(first + 1).micros_per_token or tiers.reached(last).micros_per_token:
        return f"It is worth less than a millionth of 1 {currency}."
    return "It lies in a tier of the period's overage that is free."


def _volume(tiers: Tiers, out_before: int, out_after: int, currency: str) -> str:
    before, after = tiers.reached(out_before), tiers.reached(out_after)
    if not out_before or before.micros_per_token == after.micros_per_token:
        return "" if after.micros_per_token else "All of the period's overage is free so far."
    if out_after < out_before:
        assert after.up_to_microtokens is not None
        reached = f"does not pass {_tokens(after.up_to_microtokens)} any more"
    else:
        reached = f"passes {_tokens(_begin(tiers, after))} with it"
    return (
        f"The period's overage {reached}: each of its tokens, those before too, costs"
        f" {_price(after, currency)} now, no longer {_price(before, currency)}."
    )


def _package(tiers: Tiers, out_before: int, out_after: int, currency: str) -> str:
    if tiered_slice_micros(tiers=tiers, out_before=out_before, out_after=out_after):
        return ""
    assert tiers.package is not None
    package = f"a package of {_tokens(tiers.package.microtokens)} that was begun before"
    return f"It lies in {package} and is paid for." if out_before < out_after else ""


_WHY: Final = {"graduated": _graduated, "volume": _volume, "package": _package}


def _begin(tiers: Tiers, reached: Tier) -> int:
    """Where a tier begins that is not the first."""
    bound = tiers.steps[tiers.steps.index(reached) - 1].up_to_microtokens
    assert bound is not None
    return bound


def _tokens(microtokens: int) -> str:
    return f"{tokens_text(microtokens)} token{'s' * (microtokens != MICROTOKENS_PER_TOKEN)}"


def _price(tier: Tier, currency: str) -> str:
    whole, rest = divmod(tier.micros_per_token, MICROS_PER_UNIT_OF_MONEY)
    return f"{whole}.{rest:06d}".rstrip("0").rstrip(".") + f" {currency}"
