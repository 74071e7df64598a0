"""Setup intents: a customer gives a card that is to be charged later, in its absence.

requires_payment_method -> succeeded | requires_action      by `attempt`
requires_action -> succeeded                                by `conclude`
refused         -> requires_payment_method                  by either
"""

from typing import Any

from billing.stripe.simulator import payments
from billing.stripe.simulator.cards import BY_METHOD_ID, REFUSALS, Refusal
from billing.stripe.simulator.registry import operation
from billing.stripe.simulator.world import World, merged_metadata, random_text, unset

Json = dict[str, Any]

PAGING = "created limit starting_after ending_before"


def new_intent(world: World, *, customer: str, given: Json) -> Json:
    """A setup intent that waits for a card. Not yet saved."""
    intent = world.new(
        "setup_intent",
        customer=customer,
        status="requires_payment_method",
        usage="off_session",
        payment_method_types=["card"],
        metadata=merged_metadata(None, given.get("metadata")),
        **unset(given, "description"),
    )
    return {**intent, "client_secret": f"{intent['id']}_secret_{random_text()}"}


def attempt(world: World, intent: Json, method: Json) -> Refusal | None:
    """The customer gives a card. The refusal, if its bank refused; the status says the rest."""
    intent |= {"payment_method": method["id"], "last_setup_error": None, "next_action": None}
    card = BY_METHOD_ID[method["_card"]]
    if world.decline or not card.attaches:
        return _refuse(world, intent, REFUSALS[world.decline or card.refusal or "generic_decline"])
    if card.refusal == "authentication_required":
        action = world.part("setup_intent", "next_action", type="use_stripe_sdk")
        intent |= {"status": "requires_action", "next_action": action}
        world.save(intent, "setup_intent.requires_action")
        return None
    _succeed(world, intent)
    return None


def conclude(world: World, intent: Json, *, refusal: str | None) -> Refusal | None:
    """The cardholder's answer to the bank's question."""
    assert intent["status"] == "requires_action", intent["status"]
    intent["next_action"] = None
    if refusal:
        return _refuse(world, intent, REFUSALS[refusal])
    _succeed(world, intent)
    return None


def _succeed(world: World, intent: Json) -> None:
    method = world.referred("payment_method", intent["payment_method"], param="payment_method")
    payments.attach(world, {**method, "_set_up": True}, customer=intent["customer"])
    intent["status"] = "succeeded"
    world.save(intent, "setup_intent.succeeded")


def _refuse(world: World, intent: Json, refusal: Refusal) -> Refusal:
    error = {
        "type": "card_error",
        "code": refusal.code,
        "decline_code": refusal.decline_code,
        "message": refusal.message,
    }
    intent |= {
        "status": "requires_payment_method",
        "payment_method": None,
        "last_setup_error": world.part("setup_intent", "last_setup_error", **error),
    }
    world.save(intent, "setup_intent.setup_failed")
    return refusal


@operation("GET", "/v1/setup_intents/{intent}")
def retrieve(world: World, params: Json, intent: str) -> Json:
    return world.shown(world.addressed("setup_intent", intent))


@operation("GET", "/v1/setup_intents", takes=f"customer payment_method {PAGING}")
def list_intents(world: World, params: Json) -> Json:
    found = world.store.find("setup_intent", **unset(params, "customer", "payment_method"))
    return world.listed(found[::-1], params, url="/v1/setup_intents")
