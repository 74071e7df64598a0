"""Tax worked out for a sale that is no invoice: what a payment has to come to.

The rate is the simulator's own (taxes.py); a customer without a country is refused, as at Stripe.
"""

from typing import Any

from billing.stripe.simulator import taxes
from billing.stripe.simulator.errors import InvalidRequest
from billing.stripe.simulator.money import checked_amount, checked_currency
from billing.stripe.simulator.registry import operation
from billing.stripe.simulator.world import World

Json = dict[str, Any]

KEPT_FOR = 90 * 86_400  # seconds
ITEM = "line_items"


@operation(
    "POST",
    "/v1/tax/calculations",
    takes=f"currency customer {ITEM}.amount {ITEM}.reference {ITEM}.tax_behavior",
)
def create(world: World, params: Json) -> Json:
    currency = checked_currency(params["currency"], param="currency")
    if "customer" not in params:
        raise InvalidRequest("The simulator works out a known customer's tax.", param="customer")
    customer = world.referred("customer", params["customer"], param="customer")
    address = customer["address"] or {}
    if not address.get("country"):
        raise InvalidRequest(
            "The customer's location isn't recognized. Set a valid customer address.",
            code="customer_tax_location_invalid",
            param="customer",
        )
    taxable = sum(_taxable(item, currency, index) for index, item in enumerate(params[ITEM]))
    tax = taxes.tax_on(taxable, percent=taxes.percent(world))
    calculation = world.new(
        "tax.calculation",
        amount_total=taxable + tax,
        tax_amount_exclusive=tax,
        tax_date=world.at,
        currency=currency,
        customer=customer["id"],
        expires_at=world.at + KEPT_FOR,
    )
    return world.shown(world.save(calculation))


def _taxable(item: Json, currency: str, index: int) -> int:
    param = f"{ITEM}[{index}]"
    if item.get("tax_behavior", "exclusive") != "exclusive":
        raise InvalidRequest("The simulator adds tax to prices.", param=f"{param}[tax_behavior]")
    amount = checked_amount(item["amount"], currency, param=f"{param}[amount]")
    if amount <= 0:
        raise InvalidRequest("An amount must be positive.", param=f"{param}[amount]")
    return amount


@operation("GET", "/v1/tax/calculations/{calculation}")
def retrieve(world: World, params: Json, calculation: str) -> Json:
    return world.shown(world.addressed("tax.calculation", calculation))


def check_amount(world: World, params: Json) -> None:
    """A payment to which a calculation belongs comes to its total."""
    named = params.get("hooks", {}).get("inputs", {}).get("tax", {}).get("calculation")
    if not named:
        return
    param = "hooks[inputs][tax][calculation]"
    found = world.referred("tax.calculation", named, param=param)
    if (found["amount_total"], found["currency"]) != (params["amount"], params["currency"]):
        raise InvalidRequest("The amount is not the calculation's total.", param=param)
