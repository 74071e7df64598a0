"""Checkout sessions: what a customer completes on the hosted page, a purchase or a card to keep.

open -> complete (paid, or unpaid while a delayed method is under way) | expired
"""

import re
from typing import Any

from billing.stripe.simulator import payments, setups, taxes
from billing.stripe.simulator.cards import Refusal
from billing.stripe.simulator.catalog import PRODUCT_TEXTS, new_price
from billing.stripe.simulator.errors import InvalidRequest
from billing.stripe.simulator.money import check_chargeable
from billing.stripe.simulator.registry import includable, look, operation
from billing.stripe.simulator.world import World, merged_metadata, random_text, unset

Json = dict[str, Any]

ITEMS_MAX = 100
EXPIRES_AFTER_MIN, EXPIRES_AFTER_MAX = 30 * 60, 24 * 3600
URL = re.compile(r"https?://[^\s]+")

PRICE_DATA = "currency product tax_behavior unit_amount product_data.metadata " + " ".join(
    f"product_data.{name}" for name in PRODUCT_TEXTS
)
TAKEN = " ".join(
    [
        "mode success_url cancel_url client_reference_id currency customer customer_email",
        "expires_at locale metadata submit_type ui_mode customer_creation origin_context",
        "adaptive_pricing.enabled allowed_payment_method_types automatic_tax.enabled",
        "billing_address_collection customer_update tax_id_collection.enabled",
        "invoice_creation.enabled allow_promotion_codes payment_intent_data.description",
        "payment_intent_data.metadata payment_intent_data.setup_future_usage",
        "line_items.price line_items.quantity line_items.metadata",
        "setup_intent_data.description setup_intent_data.metadata",
        *(f"line_items.price_data.{name}" for name in PRICE_DATA.split()),
    ]
)
# What the session repeats as it was given.
REPEATED = [
    "allowed_payment_method_types",
    "billing_address_collection",
    "cancel_url",
    "client_reference_id",
    "customer_email",
    "locale",
    "origin_context",
    "submit_type",
    "success_url",
]
# The simulator converts no currencies and makes no invoices of sessions: off is all they can be.
ONLY_OFF = ["adaptive_pricing", "invoice_creation"]
DELAYED = "sepa_debit"


@look("checkout.session")
def shown(world: World, session: Json) -> Json:
    is_open = session["status"] == "open"
    return {"url": f"{world.address}/c/pay/{session['id']}" if is_open else None}


@includable("checkout.session", "line_items")
def with_items(world: World, session: Json) -> Json:
    url = f"/v1/checkout/sessions/{session['id']}/line_items"
    return {"line_items": world.listed(items_of(world, session), {}, url=url)}


def items_of(world: World, session: Json) -> list[Json]:
    return world.store.find("item", _session=session["id"])


@operation("POST", "/v1/checkout/sessions", takes=TAKEN)
def create(world: World, params: Json) -> Json:
    if params.get("mode") == "setup":
        return _create_setup(world, params)
    _check(world, params)
    session = _new_session(
        world,
        params,
        mode="payment",
        payment_status="unpaid",
        payment_method_types=params.get("allowed_payment_method_types", ["card", DELAYED]),
        adaptive_pricing={"enabled": False},
        customer_creation=None if "customer" in params else "if_required",
        payment_method_collection="if_required",
        _payment_intent_data=params.get("payment_intent_data", {}),
    )
    items = [
        _item(world, session, given, f"line_items[{index}]")
        for index, given in enumerate(params["line_items"])
    ]
    session["automatic_tax"]["enabled"] = params.get("automatic_tax", {}).get("enabled", False)
    percent = taxes.percent(world) if session["automatic_tax"]["enabled"] else 0
    _sum(session, items, params.get("currency"), tax_percent=percent)
    for item in items:
        world.store.put(item)
    return world.shown(world.save(session))


def _create_setup(world: World, params: Json) -> Json:
    """A session in which a customer gives a card to be charged later. Nothing is bought."""
    _check_page(world, params)
    for name in ("line_items", "payment_intent_data", "automatic_tax", "invoice_creation"):
        if name in params:
            raise InvalidRequest(f"You can not pass `{name}` in `setup` mode.", param=name)
    if "currency" not in params and "allowed_payment_method_types" not in params:
        raise InvalidRequest(
            "In `setup` mode you must send `currency` or `allowed_payment_method_types`.",
            code="parameter_missing",
            param="currency",
        )
    if "customer" not in params:
        raise InvalidRequest(
            "The simulator saves a method for an existing customer only: send `customer`.",
            param="customer",
        )
    given = params.get("setup_intent_data", {})
    intent = setups.new_intent(world, customer=params["customer"], given=given)
    session = _new_session(
        world,
        params,
        mode="setup",
        payment_status="no_payment_required",
        payment_method_types=["card"],
        payment_method_collection="always",
        setup_intent=intent["id"],
        **unset(params, "currency"),
    )
    world.save({**intent, "_session": session["id"]}, "setup_intent.created")
    return world.shown(world.save(session))


def _new_session(world: World, params: Json, **fields: Any) -> Json:
    session = world.new(
        "checkout.session",
        status="open",
        ui_mode="hosted_page",
        customer=params.get("customer"),
        expires_at=params.get("expires_at", world.at + EXPIRES_AFTER_MAX),
        metadata=merged_metadata(None, params.get("metadata")),
        **unset(params, *REPEATED),
        **fields,
    )
    return {**session, "id": f"cs_test_{random_text(56)}"}


def _check(world: World, params: Json) -> None:
    if params.get("mode") != "payment":
        raise InvalidRequest("The simulator knows mode=payment and mode=setup only.", param="mode")
    for name in ONLY_OFF:
        if params.get(name, {}).get("enabled"):
            raise InvalidRequest(f"The simulator knows {name} off only.", param=f"{name}[enabled]")
    if "setup_intent_data" in params:
        raise InvalidRequest(
            "You can only pass `setup_intent_data` in `setup` mode.", param="setup_intent_data"
        )
    _check_page(world, params)
    if not 1 <= len(params.get("line_items", ())) <= ITEMS_MAX:
        raise InvalidRequest(f"There must be 1 to {ITEMS_MAX} line items.", param="line_items")


def _check_page(world: World, params: Json) -> None:
    if params.get("ui_mode", "hosted_page") != "hosted_page":
        raise InvalidRequest("The simulator knows ui_mode=hosted_page only.", param="ui_mode")
    _check_urls(params)
    _check_customer(world, params)
    after = params.get("expires_at", world.at + EXPIRES_AFTER_MIN) - world.at
    if not EXPIRES_AFTER_MIN - 60 <= after <= EXPIRES_AFTER_MAX + 60:
        raise InvalidRequest(
            "The `expires_at` timestamp must be between 30 minutes and 24 hours from now.",
            param="expires_at",
        )


def _check_urls(params: Json) -> None:
    if "success_url" not in params:
        raise InvalidRequest(
            "Missing required param: success_url.", code="parameter_missing", param="success_url"
        )
    for name in ("success_url", "cancel_url"):
        if name in params and not URL.fullmatch(params[name]):
            raise InvalidRequest(f"Not a valid URL: {params[name]}", code="url_invalid", param=name)


def _check_customer(world: World, params: Json) -> None:
    if "customer" in params:
        world.referred("customer", params["customer"], param="customer")
        for name in ("customer_email", "customer_creation"):
            if name in params:
                raise InvalidRequest(
                    f"You may only specify one of these parameters: customer, {name}.", param=name
                )
        return
    if "customer_update" in params:
        raise InvalidRequest(
            "`customer_update` can only be used with `customer`.", param="customer_update"
        )
    if "setup_future_usage" in params.get("payment_intent_data", {}):
        raise InvalidRequest(
            "The simulator saves a method for an existing customer only: send `customer`.",
            param="payment_intent_data[setup_future_usage]",
        )


def _item(world: World, session: Json, given: Json, param: str) -> Json:
    if ("price" in given) == ("price_data" in given):
        raise InvalidRequest("Specify either `price` or `price_data`.", param=param)
    if given.get("quantity", 0) < 1:
        raise InvalidRequest("quantity must be at least 1", param=f"{param}[quantity]")
    price = _price(world, given, param)
    product = world.referred("product", price["product"], param=f"{param}[price]")
    amount = price["unit_amount"] * given["quantity"]
    return world.new(
        "item",
        amount_subtotal=amount,
        amount_total=amount,
        currency=price["currency"],
        description=product["name"],
        discounts=[],
        metadata=merged_metadata(None, given.get("metadata")),
        price=world.shown(price),
        quantity=given["quantity"],
        taxes=[],
        _session=session["id"],
    )


def _price(world: World, given: Json, param: str) -> Json:
    if "price_data" in given:
        price = new_price(world, given["price_data"], prefix=f"{param}[price_data]")
        return world.save({**price, "active": False})
    price = world.referred("price", given["price"], param=f"{param}[price]")
    if not price["active"]:
        raise InvalidRequest(
            "The price specified is inactive. This field only accepts active prices.",
            param=f"{param}[price]",
        )
    return price


def _sum(session: Json, items: list[Json], currency: str | None, *, tax_percent: int) -> None:
    currencies = {item["currency"] for item in items} | ({currency} if currency else set())
    if len(currencies) > 1:
        raise InvalidRequest(
            f"All prices must have the same currency, not {', '.join(sorted(currencies))}.",
            param="line_items",
        )
    subtotal = sum(item["amount_total"] for item in items)
    tax = taxes.tax_on(subtotal, percent=tax_percent)
    session |= {
        "currency": items[0]["currency"],
        "amount_subtotal": subtotal,
        "amount_total": subtotal + tax,
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": tax},
    }
    check_chargeable(subtotal + tax, session["currency"], param="line_items")


@operation("GET", "/v1/checkout/sessions/{session}")
def retrieve(world: World, params: Json, session: str) -> Json:
    return world.shown(world.addressed("checkout.session", session))


@operation("POST", "/v1/checkout/sessions/{session}", takes="metadata")
def update(world: World, params: Json, session: str) -> Json:
    existing = world.addressed("checkout.session", session)
    existing["metadata"] = merged_metadata(existing["metadata"], params.get("metadata"))
    return world.shown(world.save(existing))


PAGING = "limit starting_after ending_before"


@operation("GET", "/v1/checkout/sessions", takes=f"created customer payment_intent status {PAGING}")
def list_sessions(world: World, params: Json) -> Json:
    fields = unset(params, "customer", "payment_intent", "status")
    sessions = world.store.find("checkout.session", **fields)
    return world.listed(sessions[::-1], params, url="/v1/checkout/sessions")


@operation("GET", "/v1/checkout/sessions/{session}/line_items", takes=PAGING)
def list_items(world: World, params: Json, session: str) -> Json:
    existing = world.addressed("checkout.session", session)
    url = f"/v1/checkout/sessions/{session}/line_items"
    return world.listed(items_of(world, existing), params, url=url)


@operation("POST", "/v1/checkout/sessions/{session}/expire")
def expire(world: World, params: Json, session: str) -> Json:
    existing = world.addressed("checkout.session", session)
    if existing["status"] != "open":
        raise InvalidRequest(
            'Only Checkout Sessions with a status in ["open"] can be expired. This Checkout'
            f" Session has a status of {existing['status']}.",
            param="session",
        )
    return world.shown(_expired(world, existing))


def _expired(world: World, session: Json) -> Json:
    return world.save({**session, "status": "expired"}, "checkout.session.expired")


def expire_due(world: World) -> None:
    for session in world.store.find("checkout.session", status="open"):
        if session["expires_at"] <= world.at:
            _expired(world, session)


def pay(world: World, session: Json, method: Json) -> Refusal | None:
    """One attempt of the customer on the hosted page. Afterwards the session is saved."""
    assert session["status"] == "open"
    world.store.put(method)
    intent = _intent(world, session)
    session["payment_intent"] = intent["id"]
    world.store.put(session)
    refusal = payments.attempt(world, intent, method, off_session=False)
    follow(world, session, intent, refusal)
    return refusal


def keep_card(world: World, session: Json, method: Json) -> Refusal | None:
    """One attempt to give a card, in setup mode. Afterwards the session is saved."""
    assert session["status"] == "open"
    world.store.put(method)
    intent = world.referred("setup_intent", session["setup_intent"], param="session")
    refusal = setups.attempt(world, intent, method)
    follow_setup(world, session, intent)
    return refusal


def follow_setup(world: World, session: Json, intent: Json) -> None:
    """What an attempt on its setup intent means to the session."""
    if intent["status"] == "succeeded" and session["status"] == "open":
        method = world.store.get(intent["payment_method"] or "") or {}
        session |= {
            "status": "complete",
            "customer_details": _customer_details(world, session, method),
        }
        world.save(session, "checkout.session.completed")


def _intent(world: World, session: Json) -> Json:
    """The session's payment intent: made by the first attempt, used by those after it."""
    if session["payment_intent"]:
        return world.referred("payment_intent", session["payment_intent"], param="session")
    given = session["_payment_intent_data"]
    intent = payments.new_intent(
        world,
        amount=session["amount_total"],
        currency=session["currency"],
        customer=session["customer"],
        metadata=merged_metadata(None, given.get("metadata")),
        _session=session["id"],
        **unset(given, "description", "setup_future_usage"),
    )
    return world.save(intent, "payment_intent.created")


def follow(world: World, session: Json, intent: Json, refusal: Refusal | None) -> None:
    """What an attempt on its payment intent means to the session."""
    if session["status"] == "complete":
        _follow_late(world, session, intent, refusal)
    elif refusal is None and intent["status"] in {"succeeded", "processing"}:
        method = world.store.get(intent["payment_method"] or "") or {}
        paid = intent["status"] == "succeeded"
        session |= {
            "status": "complete",
            "payment_status": "paid" if paid else "unpaid",
            "customer_details": _customer_details(world, session, method),
        }
        world.save(session, "checkout.session.completed")


def _follow_late(world: World, session: Json, intent: Json, refusal: Refusal | None) -> None:
    if refusal:
        world.save(session, "checkout.session.async_payment_failed")
    elif intent["status"] == "succeeded":
        session["payment_status"] = "paid"
        world.save(session, "checkout.session.async_payment_succeeded")


def _customer_details(world: World, session: Json, method: Json) -> Json:
    customer = world.store.get(session["customer"] or "") or {}
    billing = method.get("billing_details") or {}
    return world.part(
        "checkout.session",
        "customer_details",
        email=customer.get("email") or session["customer_email"] or billing.get("email"),
        name=customer.get("name") or billing.get("name"),
        phone=customer.get("phone"),
        address=customer.get("address") or billing.get("address"),
        tax_exempt=customer.get("tax_exempt", "none"),
        tax_ids=[],
    )
