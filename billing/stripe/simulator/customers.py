"""Customers and the payment methods they keep."""

from typing import Any

from billing.stripe.simulator import payments
from billing.stripe.simulator.cards import BY_METHOD_ID
from billing.stripe.simulator.errors import InvalidRequest, Unsupported
from billing.stripe.simulator.registry import operation
from billing.stripe.simulator.world import World, merged_metadata, random_text, unset

Json = dict[str, Any]

TEXTS = ["business_name", "description", "email", "individual_name", "name", "phone", "tax_exempt"]
TAKEN = (
    f"{' '.join(TEXTS)} address balance invoice_prefix metadata next_invoice_sequence"
    " preferred_locales invoice_settings.default_payment_method invoice_settings.footer"
    " tax.validate_location"
)
# Parameters that name a balance or a number of their own, as they are.
PLAIN = ["balance", "invoice_prefix", "next_invoice_sequence", "preferred_locales"]


@operation("POST", "/v1/customers", takes=f"{TAKEN} payment_method")
def create(world: World, params: Json) -> Json:
    customer = world.new(
        "customer",
        balance=0,
        delinquent=False,
        invoice_prefix=random_text(8).upper(),
        next_invoice_sequence=1,
        preferred_locales=[],
        tax_exempt="none",
        invoice_settings=world.part("customer", "invoice_settings"),
        metadata={},
    )
    world.store.put(customer)
    if "payment_method" in params:
        method = payments.usable_method(
            world, params["payment_method"], customer=None, param="payment_method"
        )
        payments.attach(world, method, customer=customer["id"])
        params = _naming_the_method(params, method["id"])
    return world.shown(world.save(_changed(world, customer, params), "customer.created"))


@operation("POST", "/v1/customers/{customer}", takes=TAKEN)
def update(world: World, params: Json, customer: str) -> Json:
    changed = _changed(world, _existing(world, customer), params)
    return world.shown(world.save(changed, "customer.updated"))


@operation("GET", "/v1/customers/{customer}")
def retrieve(world: World, params: Json, customer: str) -> Json:
    return world.shown(world.addressed("customer", customer))


@operation("DELETE", "/v1/customers/{customer}")
def delete(world: World, params: Json, customer: str) -> Json:
    existing = _existing(world, customer)
    world.emit("customer.deleted", existing)
    deleted = {"id": customer, "object": "customer", "deleted": True}
    world.store.put(deleted)
    return deleted


@operation("GET", "/v1/customers", takes="email created limit starting_after ending_before")
def list_customers(world: World, params: Json) -> Json:
    customers = [
        customer
        for customer in reversed(world.store.find("customer", **unset(params, "email")))
        if not customer.get("deleted")
    ]
    return world.listed(customers, params, url="/v1/customers")


def _existing(world: World, customer_id: str) -> Json:
    customer = world.addressed("customer", customer_id)
    if customer.get("deleted"):
        raise InvalidRequest(
            f"No such customer: '{customer_id}'; it was deleted",
            code="resource_missing",
            param="id",
        )
    return customer


def _changed(world: World, customer: Json, params: Json) -> Json:
    customer = {**customer, **unset(params, *TEXTS, *PLAIN)}
    customer["metadata"] = merged_metadata(customer["metadata"], params.get("metadata"))
    if "address" in params:
        given = params["address"]
        customer["address"] = world.part("customer", "address", **given) if given else None
    if params.get("tax", {}).get("validate_location") == "immediately":
        _check_location(customer)
    if settings := params.get("invoice_settings"):
        customer["invoice_settings"] = {
            **customer["invoice_settings"],
            **_invoice_settings(world, customer["id"], settings),
        }
    return customer


def _check_location(customer: Json) -> None:
    if not (customer["address"] or {}).get("country"):
        raise InvalidRequest(
            "The customer's location isn't recognized. Set a valid customer address.",
            code="customer_tax_location_invalid",
            param="address",
        )


def _naming_the_method(params: Json, method_id: str) -> Json:
    """A test method such as pm_card_visa stands for the one that was just made of it."""
    settings = params.get("invoice_settings", {})
    if settings.get("default_payment_method") != params["payment_method"]:
        return params
    named = {**settings, "default_payment_method": method_id}
    return {**params, "invoice_settings": named}


def _invoice_settings(world: World, customer_id: str, settings: Json) -> Json:
    chosen = unset(settings, "default_payment_method", "footer")
    if method_id := chosen.get("default_payment_method"):
        param = "invoice_settings[default_payment_method]"
        method = world.referred("payment_method", method_id, param=param)
        if method["customer"] != customer_id:
            raise InvalidRequest(
                f"The payment method {method_id} must be attached to the customer", param=param
            )
    return chosen


@operation("POST", "/v1/payment_methods", takes="type card.token billing_details metadata")
def create_method(world: World, params: Json) -> Json:
    if params.get("type") != "card" or "card" not in params:
        raise Unsupported("payment methods other than cards by token", param="type")
    token = params["card"]["token"].replace("tok_", "pm_card_")
    if not token.startswith("pm_card_") or token not in BY_METHOD_ID:
        raise InvalidRequest(
            f"No such token: '{params['card']['token']}'",
            code="resource_missing",
            param="card[token]",
        )
    method = payments.new_card(world, BY_METHOD_ID[token], **params.get("billing_details", {}))
    method["metadata"] = merged_metadata(None, params.get("metadata"))
    return world.shown(world.save(method))


@operation("POST", "/v1/payment_methods/{payment_method}/attach", takes="customer")
def attach_method(world: World, params: Json, payment_method: str) -> Json:
    if "customer" not in params:
        raise InvalidRequest(
            "Missing required param: customer.", code="parameter_missing", param="customer"
        )
    method = payments.usable_method(
        world, payment_method, customer=params["customer"], param="payment_method"
    )
    return world.shown(payments.attach(world, method, customer=params["customer"]))


@operation("POST", "/v1/payment_methods/{payment_method}/detach")
def detach_method(world: World, params: Json, payment_method: str) -> Json:
    method = world.addressed("payment_method", payment_method)
    if not method["customer"]:
        raise InvalidRequest("The payment method is not attached to a customer")
    customer = world.store.get(method["customer"])
    settings = (customer or {}).get("invoice_settings") or {}
    if customer and settings.get("default_payment_method") == payment_method:
        settings["default_payment_method"] = None
        world.store.put(customer)
    method |= {"customer": None, "_detached": True}
    return world.shown(world.save(method, "payment_method.detached"))


@operation("GET", "/v1/payment_methods/{payment_method}")
def retrieve_method(world: World, params: Json, payment_method: str) -> Json:
    return world.shown(world.addressed("payment_method", payment_method))


PAGING = "limit starting_after ending_before"


@operation("GET", "/v1/payment_methods", takes=f"customer type {PAGING}")
def list_methods(world: World, params: Json) -> Json:
    fields = unset(params, "customer", "type")
    methods = world.store.find("payment_method", **fields) if "customer" in fields else []
    return world.listed(methods[::-1], params, url="/v1/payment_methods")


@operation("GET", "/v1/customers/{customer}/payment_methods", takes=f"type {PAGING}")
def list_customer_methods(world: World, params: Json, customer: str) -> Json:
    _existing(world, customer)
    methods = world.store.find("payment_method", customer=customer, **unset(params, "type"))
    return world.listed(methods[::-1], params, url=f"/v1/customers/{customer}/payment_methods")


@operation("GET", "/v1/customers/{customer}/payment_methods/{payment_method}")
def retrieve_customer_method(
    world: World, params: Json, customer: str, payment_method: str
) -> Json:
    _existing(world, customer)
    method = world.addressed("payment_method", payment_method)
    if method["customer"] != customer:
        raise InvalidRequest(
            f"The payment method {payment_method} is not attached to {customer}",
            code="resource_missing",
            param="payment_method",
        )
    return world.shown(method)
