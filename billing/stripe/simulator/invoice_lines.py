"""Lines of an invoice, and the invoice's sums. Integers throughout: nothing here rounds."""

from typing import Any

from billing.stripe.simulator import taxes
from billing.stripe.simulator.catalog import new_price
from billing.stripe.simulator.errors import InvalidRequest
from billing.stripe.simulator.money import charge_min, checked_amount
from billing.stripe.simulator.registry import operation
from billing.stripe.simulator.world import World, merged_metadata, random_text, unset

Json = dict[str, Any]

LINES_MAX = 250
LINES_SHOWN = 10

PRICE_DATA = "currency product product_data tax_behavior unit_amount"
LINE = " ".join(
    [
        "lines.amount lines.description lines.discountable lines.metadata lines.period",
        "lines.pricing.price lines.quantity",
        *(f"lines.price_data.{name}" for name in PRICE_DATA.split()),
    ]
)


def lines_of(world: World, invoice: Json) -> list[Json]:
    return world.store.find("line_item", invoice=invoice["id"])


def require_draft(invoice: Json) -> None:
    if invoice["status"] != "draft":
        raise InvalidRequest(
            f"This invoice is no longer editable: it is {invoice['status']}.",
            code="invoice_not_editable",
            param="invoice",
        )


@operation("POST", "/v1/invoices/{invoice}/add_lines", takes=f"{LINE} invoice_metadata")
def add_lines(world: World, params: Json, invoice: str) -> Json:
    draft = _draft(world, invoice)
    count = len(lines_of(world, draft)) + len(params["lines"])
    if count > LINES_MAX:
        raise InvalidRequest(
            f"An invoice can have at most {LINES_MAX} lines; this would make it {count}.",
            code="invoice_too_many_lines",
            param="lines",
        )
    for index, given in enumerate(params["lines"]):
        world.store.put(_line(world, draft, given, f"lines[{index}]"))
    return _saved(world, draft, params)


@operation("POST", "/v1/invoices/{invoice}/update_lines", takes=f"{LINE} lines.id invoice_metadata")
def update_lines(world: World, params: Json, invoice: str) -> Json:
    draft = _draft(world, invoice)
    for index, given in enumerate(params["lines"]):
        line = _own_line(world, draft, given["id"], f"lines[{index}][id]")
        if {"amount", "price_data", "pricing", "quantity"} & set(given):
            priced = _line(world, draft, given, f"lines[{index}]")
            line |= {name: priced[name] for name in PRICED}
        line |= unset(given, "description", "discountable", "period")
        line["metadata"] = merged_metadata(line["metadata"], given.get("metadata"))
        world.store.put(line)
    return _saved(world, draft, params)


PRICED = ["amount", "subtotal", "currency", "quantity", "quantity_decimal", "pricing"]


@operation(
    "POST",
    "/v1/invoices/{invoice}/remove_lines",
    takes="lines.id lines.behavior invoice_metadata",
)
def remove_lines(world: World, params: Json, invoice: str) -> Json:
    draft = _draft(world, invoice)
    for index, given in enumerate(params["lines"]):
        if given["behavior"] != "delete":
            raise InvalidRequest(
                "behavior must be delete: there are no pending items to return to",
                param=f"lines[{index}][behavior]",
            )
        line = _own_line(world, draft, given["id"], f"lines[{index}][id]")
        world.store.remove(line["id"])
    return _saved(world, draft, params)


@operation("GET", "/v1/invoices/{invoice}/lines", takes="limit starting_after ending_before")
def list_lines(world: World, params: Json, invoice: str) -> Json:
    existing = world.addressed("invoice", invoice)
    return world.listed(lines_of(world, existing), params, url=f"/v1/invoices/{invoice}/lines")


def _draft(world: World, invoice_id: str) -> Json:
    invoice = world.addressed("invoice", invoice_id)
    require_draft(invoice)
    return invoice


def _own_line(world: World, invoice: Json, line_id: str, param: str) -> Json:
    line = world.referred("line_item", line_id, param=param)
    if line["invoice"] != invoice["id"]:
        raise InvalidRequest("The line belongs to another invoice", param=param)
    return line


def _saved(world: World, invoice: Json, params: Json) -> Json:
    invoice["metadata"] = merged_metadata(invoice["metadata"], params.get("invoice_metadata"))
    return world.shown(world.save(summed(world, invoice), "invoice.updated"))


def _line(world: World, invoice: Json, given: Json, param: str) -> Json:
    """A line item from its parameters; exactly one way of pricing it."""
    quantity = given.get("quantity", 1)
    if quantity < 0:
        raise InvalidRequest("Invalid non-negative integer", param=f"{param}[quantity]")
    ways = {"amount", "price_data", "pricing"} & set(given)
    if len(ways) != 1:
        raise InvalidRequest(
            "You must specify exactly one of amount, price_data and pricing.", param=param
        )
    if "amount" in given:
        return _line_of_amount(world, invoice, given, param)
    price = _price(world, invoice, given, param)
    pricing = {
        "type": "price_details",
        "price_details": {"price": price["id"], "product": price["product"]},
        "unit_amount_decimal": str(price["unit_amount"]),
    }
    amount = price["unit_amount"] * quantity
    line = _plain_line(world, invoice, given, amount=amount, quantity=quantity, param=param)
    return {**line, "pricing": pricing}


def _line_of_amount(world: World, invoice: Json, given: Json, param: str) -> Json:
    if "quantity" in given:
        raise InvalidRequest(
            "You may only specify one of these parameters: amount, quantity.",
            param=f"{param}[quantity]",
        )
    return _plain_line(world, invoice, given, amount=given["amount"], quantity=1, param=param)


def _price(world: World, invoice: Json, given: Json, param: str) -> Json:
    if "pricing" in given:
        where = f"{param}[pricing][price]"
        price = world.referred("price", given["pricing"].get("price", ""), param=where)
    else:
        where = f"{param}[price_data][currency]"
        price = new_price(world, given["price_data"], prefix=f"{param}[price_data]")
        price = world.save({**price, "active": False})
    if price["currency"] != invoice["currency"]:
        raise InvalidRequest(
            f"The price's currency ({price['currency']}) is not the invoice's"
            f" ({invoice['currency']}).",
            param=where,
        )
    if invoice["automatic_tax"]["enabled"] and price["tax_behavior"] == "unspecified":
        raise InvalidRequest(
            "With automatic tax every price needs a tax_behavior.",
            param=where.replace("currency", "tax_behavior"),
        )
    return price


def _plain_line(
    world: World, invoice: Json, given: Json, *, amount: int, quantity: int, param: str
) -> Json:
    checked_amount(amount, invoice["currency"], param=f"{param}[amount]")
    if invoice["automatic_tax"]["enabled"] and amount < 0:
        raise InvalidRequest(
            "Negative lines are incompatible with automatic tax.", param=f"{param}[amount]"
        )
    period = given.get("period") or {"start": world.at, "end": world.at}
    if period["start"] > period["end"]:
        raise InvalidRequest("The period ends before it starts.", param=f"{param}[period][end]")
    item = {"invoice_item": f"ii_{random_text()}", "proration": False}
    parent = world.part("line_item", "parent", type="invoice_item_details")
    details = world.part("line_item", "parent", "invoice_item_details", **item)
    return world.new(
        "line_item",
        amount=amount,
        subtotal=amount,
        currency=invoice["currency"],
        description=given.get("description") or None,
        discountable=given.get("discountable", True),
        discount_amounts=[],
        invoice=invoice["id"],
        metadata=merged_metadata(None, given.get("metadata")),
        parent={**parent, "invoice_item_details": details},
        period=period,
        pretax_credit_amounts=[],
        quantity=quantity,
        quantity_decimal=str(quantity),
        taxes=[],
    )


def summed(world: World, invoice: Json) -> Json:
    """The invoice with its sums worked out anew from its lines and the customer's balance.

    amount due = total + starting balance, never below 0; what is left of a credit, or what is
    too little to be charged, becomes the customer's balance when the invoice is finalized.
    """
    subtotal = sum(line["amount"] for line in lines_of(world, invoice))
    customer = world.store.get(invoice["customer"]) or {}
    is_taxed = invoice["automatic_tax"]["enabled"] and (customer.get("address") or {}).get(
        "country"
    )
    percent = taxes.percent(world) if is_taxed else 0
    tax = taxes.tax_on(subtotal, percent=percent)
    total = subtotal + tax
    starting = customer.get("balance") or 0
    owed = total + starting
    too_small = 0 < owed < charge_min(invoice["currency"])
    due = 0 if owed < 0 or too_small else owed
    return {
        **invoice,
        "subtotal": subtotal,
        "subtotal_excluding_tax": subtotal,
        "total": total,
        "total_excluding_tax": subtotal,
        "total_taxes": taxes.shown(world, "invoice", amount=tax, taxable=subtotal),
        "_tax_percent": percent,
        "starting_balance": starting,
        "amount_due": due,
        "amount_remaining": due,
        "_ending_balance": owed - due,
    }
