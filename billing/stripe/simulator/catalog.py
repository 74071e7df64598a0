"""Products and prices. A price's amount never changes: a new amount is a new price."""

import re
from typing import Any

from billing.stripe.simulator.errors import InvalidRequest
from billing.stripe.simulator.money import checked_amount, checked_currency
from billing.stripe.simulator.registry import operation
from billing.stripe.simulator.world import World, merged_metadata, unset

Json = dict[str, Any]

PRODUCT_TEXTS = [
    "active",
    "description",
    "name",
    "statement_descriptor",
    "tax_code",
    "unit_label",
    "url",
]
PAGING = "created limit starting_after ending_before"
OWN_ID = re.compile(r"[A-Za-z0-9_-]{1,255}")


@operation("POST", "/v1/products", takes=f"{' '.join(PRODUCT_TEXTS)} id metadata")
def create_product(world: World, params: Json) -> Json:
    return world.shown(world.save(new_product(world, params), "product.created"))


def new_product(world: World, params: Json, *, prefix: str = "") -> Json:
    if "id" in params:
        _check_own_id(world, params["id"], f"{prefix}[id]" if prefix else "id")
    product = world.new("product", active=True, type="service", updated=world.at)
    return {
        **product,
        **unset(params, "id", *PRODUCT_TEXTS),
        "metadata": merged_metadata(None, params.get("metadata")),
    }


def _check_own_id(world: World, product_id: str, param: str) -> None:
    if not OWN_ID.fullmatch(product_id):
        raise InvalidRequest("An id has up to 255 letters, digits, - and _.", param=param)
    if world.store.get(product_id):
        raise InvalidRequest("Product already exists.", code="resource_already_exists", param=param)


@operation("POST", "/v1/products/{id}", takes=f"{' '.join(PRODUCT_TEXTS)} default_price metadata")
def update_product(world: World, params: Json, id: str) -> Json:  # noqa: A002 - Stripe's name
    product = world.addressed("product", id)
    if "default_price" in params:
        world.referred("price", params["default_price"], param="default_price")
    product |= unset(params, *PRODUCT_TEXTS, "default_price") | {"updated": world.at}
    product["metadata"] = merged_metadata(product["metadata"], params.get("metadata"))
    return world.shown(world.save(product, "product.updated"))


@operation("GET", "/v1/products/{id}")
def retrieve_product(world: World, params: Json, id: str) -> Json:  # noqa: A002 - Stripe's name
    return world.shown(world.addressed("product", id))


@operation("GET", "/v1/products", takes=f"active ids {PAGING}")
def list_products(world: World, params: Json) -> Json:
    products = world.store.find("product", **unset(params, "active"))
    wanted = params.get("ids")
    chosen = [product for product in products[::-1] if wanted is None or product["id"] in wanted]
    return world.listed(chosen, params, url="/v1/products")


PRICE_NAMES = ["active", "nickname", "tax_behavior"]


@operation(
    "POST",
    "/v1/prices",
    takes=f"{' '.join(PRICE_NAMES)} currency product product_data lookup_key metadata"
    " transfer_lookup_key unit_amount billing_scheme",
)
def create_price(world: World, params: Json) -> Json:
    if params.get("billing_scheme", "per_unit") != "per_unit":
        raise InvalidRequest("billing_scheme must be per_unit", param="billing_scheme")
    price = new_price(world, params)
    _take_lookup_key(world, price, params)
    return world.shown(world.save(price, "price.created"))


def new_price(world: World, params: Json, *, prefix: str = "") -> Json:
    """A price from the parameters of a price or of `price_data`; its product is made or checked."""

    def param(name: str) -> str:
        return f"{prefix}[{name}]" if prefix else name

    currency = checked_currency(params["currency"], param=param("currency"))
    if "unit_amount" not in params:
        raise InvalidRequest(
            f"Missing required param: {param('unit_amount')}.",
            code="parameter_missing",
            param=param("unit_amount"),
        )
    amount = checked_amount(params["unit_amount"], currency, param=param("unit_amount"))
    if amount < 0:
        raise InvalidRequest("Invalid non-negative integer", param=param("unit_amount"))
    return world.new(
        "price",
        active=params.get("active", True),
        billing_scheme="per_unit",
        currency=currency,
        product=_product_of(world, params, param("product")),
        type="one_time",
        unit_amount=amount,
        unit_amount_decimal=str(amount),
        tax_behavior=params.get("tax_behavior", "unspecified"),
        nickname=params.get("nickname"),
        metadata=merged_metadata(None, params.get("metadata")),
    )


def _product_of(world: World, params: Json, param: str) -> str:
    if ("product" in params) == ("product_data" in params):
        raise InvalidRequest(
            "You must specify either `product` or `product_data`.",
            code="parameter_missing",
            param=param,
        )
    if "product" in params:
        product = world.referred("product", params["product"], param=param)
    else:
        data = params["product_data"]
        product = new_product(world, data, prefix=f"{param}_data")
        world.save(product, "product.created")
    product_id: str = product["id"]
    return product_id


def _take_lookup_key(world: World, price: Json, params: Json) -> None:
    key = params.get("lookup_key") or None
    for holder in world.store.find("price", lookup_key=key) if key else ():
        if holder["id"] == price["id"]:
            continue
        if not params.get("transfer_lookup_key"):
            raise InvalidRequest(
                f"A price ({holder['id']}) already uses that lookup key.",
                code="resource_already_exists",
                param="lookup_key",
            )
        world.save({**holder, "lookup_key": None}, "price.updated")
    price["lookup_key"] = key


@operation(
    "POST",
    "/v1/prices/{price}",
    takes=f"{' '.join(PRICE_NAMES)} lookup_key metadata transfer_lookup_key",
)
def update_price(world: World, params: Json, price: str) -> Json:
    existing = world.addressed("price", price)
    if existing["tax_behavior"] != "unspecified" and "tax_behavior" in params:
        raise InvalidRequest("tax_behavior cannot be changed once set", param="tax_behavior")
    existing |= unset(params, *PRICE_NAMES)
    existing["metadata"] = merged_metadata(existing["metadata"], params.get("metadata"))
    if "lookup_key" in params:
        _take_lookup_key(world, existing, params)
    return world.shown(world.save(existing, "price.updated"))


@operation("GET", "/v1/prices/{price}")
def retrieve_price(world: World, params: Json, price: str) -> Json:
    return world.shown(world.addressed("price", price))


@operation("GET", "/v1/prices", takes=f"active currency product type lookup_keys {PAGING}")
def list_prices(world: World, params: Json) -> Json:
    prices = world.store.find("price", **unset(params, "active", "currency", "product", "type"))
    keys = params.get("lookup_keys")
    chosen = [price for price in prices[::-1] if keys is None or price["lookup_key"] in keys]
    return world.listed(chosen, params, url="/v1/prices")
