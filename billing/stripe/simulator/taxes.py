"""Taxes: one rate for all, on top of the price. None unless somebody sets one (/_sim/tax).

Of a sum, not of its lines, and rounded once, half up: what is credited of it piece by piece comes
to the same, as each piece takes what brings the tax of all of them together to its rounded amount.
"""

from typing import Any

from billing.stripe.simulator.world import World

Json = dict[str, Any]

PERCENT_MAX = 50


def percent(world: World) -> int:
    return int(world.store.setting("tax_percent", 0))


def tax_on(taxable: int, *, percent: int) -> int:
    return (taxable * percent + 50) // 100


def shown(world: World, kind: str, *, amount: int, taxable: int) -> list[Json]:
    """The taxes of an invoice, a credit note or their lines."""
    if not amount:
        return []
    return [
        world.part(
            kind,
            "total_taxes",
            amount=amount,
            tax_behavior="exclusive",
            taxability_reason="standard_rated",
            taxable_amount=taxable,
        )
    ]
