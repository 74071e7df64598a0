"""Payment intents and charges, as the API shows and changes them."""

from typing import Any

from billing.stripe.simulator import calculations, checkout, collection, payments
from billing.stripe.simulator.cards import Refusal
from billing.stripe.simulator.errors import InvalidRequest
from billing.stripe.simulator.money import check_chargeable, checked_currency
from billing.stripe.simulator.registry import operation
from billing.stripe.simulator.world import World, merged_metadata, unset

Json = dict[str, Any]

PAGING = "created limit starting_after ending_before"
CONFIRM = "off_session payment_method error_on_requires_action"


@operation(
    "POST",
    "/v1/payment_intents",
    takes=f"{CONFIRM} amount confirm currency customer description metadata"
    " automatic_payment_methods.enabled automatic_payment_methods.allow_redirects"
    " hooks.inputs.tax.calculation setup_future_usage",
)
def create_intent(world: World, params: Json) -> Json:
    currency = checked_currency(params["currency"], param="currency")
    check_chargeable(params["amount"], currency, param="amount")
    calculations.check_amount(world, params)
    if "customer" in params:
        world.referred("customer", params["customer"], param="customer")
    if "off_session" in params and not params.get("confirm"):
        raise InvalidRequest("off_session needs confirm=true", param="off_session")
    intent = payments.new_intent(
        world,
        amount=params["amount"],
        currency=currency,
        metadata=merged_metadata(None, params.get("metadata")),
        **unset(params, "customer", "description", "setup_future_usage"),
    )
    if "payment_method" in params:
        method = _method(world, intent, params["payment_method"])
        intent |= {"payment_method": method["id"], "status": "requires_confirmation"}
    world.save(intent, "payment_intent.created")
    return _confirmed(world, intent, params) if params.get("confirm") else world.shown(intent)


@operation("POST", "/v1/payment_intents/{intent}/confirm", takes=CONFIRM)
def confirm(world: World, params: Json, intent: str) -> Json:
    return _confirmed(world, world.addressed("payment_intent", intent), params)


def _confirmed(world: World, intent: Json, params: Json) -> Json:
    _require_status(intent, payments.WAITING)
    method_id = params.get("payment_method") or intent["payment_method"]
    if not method_id:
        raise InvalidRequest(
            "You cannot confirm this PaymentIntent because it's missing a payment method.",
            code="payment_intent_unexpected_state",
            param="payment_method",
        )
    off_session = params.get("off_session") not in (None, False, "")
    # An on-session authentication that the caller won't show is a refusal, too.
    final = off_session or params.get("error_on_requires_action", False)
    method = _method(world, intent, method_id)
    refusal = payments.attempt(world, intent, method, off_session=final)
    follow(world, intent, refusal)
    if refusal:
        raise payments.card_refused(refusal, payment_intent=world.shown(intent))
    return world.shown(intent)


def _method(world: World, intent: Json, method_id: str) -> Json:
    customer = intent["customer"]
    return payments.usable_method(world, method_id, customer=customer, param="payment_method")


def follow(world: World, intent: Json, refusal: Refusal | None) -> None:
    """Tell the invoice or the session of an intent what came of an attempt."""
    if invoice_id := intent.get("_invoice"):
        invoice = world.referred("invoice", invoice_id, param="intent")
        collection.follow(world, invoice, intent, refusal)
    if session_id := intent.get("_session"):
        session = world.referred("checkout.session", session_id, param="intent")
        checkout.follow(world, session, intent, refusal)


def _require_status(intent: Json, statuses: set[str]) -> None:
    if intent["status"] not in statuses:
        raise InvalidRequest(
            f"This PaymentIntent's status is {intent['status']}; it must be"
            f" {' or '.join(sorted(statuses))}.",
            code="payment_intent_unexpected_state",
            param="intent",
        )


@operation("POST", "/v1/payment_intents/{intent}/cancel", takes="cancellation_reason")
def cancel(world: World, params: Json, intent: str) -> Json:
    existing = world.addressed("payment_intent", intent)
    _require_status(existing, payments.WAITING)
    if existing.get("_invoice") or existing.get("_session"):
        raise InvalidRequest(
            "The PaymentIntent belongs to an invoice or session: void or expire that instead.",
            param="intent",
        )
    reason = params.get("cancellation_reason")
    return world.shown(payments.cancel(world, existing, reason=reason))


@operation("POST", "/v1/payment_intents/{intent}", takes="description metadata")
def update_intent(world: World, params: Json, intent: str) -> Json:
    existing = world.addressed("payment_intent", intent) | unset(params, "description")
    existing["metadata"] = merged_metadata(existing["metadata"], params.get("metadata"))
    return world.shown(world.save(existing))


@operation("GET", "/v1/payment_intents/{intent}")
def retrieve_intent(world: World, params: Json, intent: str) -> Json:
    return world.shown(world.addressed("payment_intent", intent))


@operation("GET", "/v1/payment_intents", takes=f"customer {PAGING}")
def list_intents(world: World, params: Json) -> Json:
    found = world.store.find("payment_intent", **unset(params, "customer"))
    return world.listed(found[::-1], params, url="/v1/payment_intents")


@operation("GET", "/v1/charges/{charge}")
def retrieve_charge(world: World, params: Json, charge: str) -> Json:
    return world.shown(world.addressed("charge", charge))


@operation("GET", "/v1/charges", takes=f"customer payment_intent {PAGING}")
def list_charges(world: World, params: Json) -> Json:
    found = world.store.find("charge", **unset(params, "customer", "payment_intent"))
    return world.listed(found[::-1], params, url="/v1/charges")
