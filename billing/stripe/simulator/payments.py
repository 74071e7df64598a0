"""How money moves: payment methods, payment intents and charges.

An intent is one thing to be paid, a charge one attempt to pay it. `attempt` makes an attempt and
records it, whatever its outcome; what follows from the outcome (an invoice paid, a session
complete) is not known here.

    requires_payment_method -> succeeded | requires_action | processing      by `attempt`
    requires_action, processing -> succeeded                                 by `conclude`
    refused                 -> requires_payment_method                       by either
"""

from typing import Any

from billing.stripe.simulator import disputes
from billing.stripe.simulator.cards import BY_METHOD_ID, REFUSALS, Card, Refusal
from billing.stripe.simulator.errors import CardRefused, InvalidRequest
from billing.stripe.simulator.world import World, merged_metadata, random_text

Json = dict[str, Any]

WAITING = {"requires_payment_method", "requires_confirmation", "requires_action"}


def new_card(world: World, card: Card, **billing_details: Any) -> Json:
    """A payment method made of a test card. Not yet saved, nobody's yet."""
    part = world.part(
        "payment_method",
        "card",
        brand=card.brand,
        display_brand=card.brand,
        last4=card.number[-4:],
        exp_month=12,
        exp_year=2034,
        funding="credit",
        country="US",
        fingerprint=card.method_id,
    )
    return world.new(
        "payment_method",
        type="card",
        card=part,
        billing_details=world.part("payment_method", "billing_details", **billing_details),
        metadata={},
        allow_redisplay="unspecified",
        _card=card.method_id,
    )


def new_bank_debit(world: World, **billing_details: Any) -> Json:
    """A delayed method: the money comes, or does not, days after the customer's consent."""
    return world.new(
        "payment_method",
        type="sepa_debit",
        sepa_debit=world.part("payment_method", "sepa_debit", last4="3000", country="DE"),
        billing_details=world.part("payment_method", "billing_details", **billing_details),
        metadata={},
        _card=None,
    )


def usable_method(world: World, method_id: str, *, customer: str | None, param: str) -> Json:
    """The method an id or a test token names; the customer's own, or nobody's."""
    if method_id in BY_METHOD_ID:
        return world.save(new_card(world, BY_METHOD_ID[method_id]))
    method = world.referred("payment_method", method_id, param=param)
    if method.get("_detached"):
        raise InvalidRequest(
            f"The payment method {method_id} was detached from its customer and cannot be used"
            " again.",
            code="payment_method_not_available",
            param=param,
        )
    if method["customer"] not in (None, customer):
        raise InvalidRequest(
            f"The payment method {method_id} belongs to another customer", param=param
        )
    return method


def attach(world: World, method: Json, *, customer: str, param: str = "customer") -> Json:
    """Give a method to a customer. The bank is asked, so a bad card is refused here."""
    world.referred("customer", customer, param=param)
    if method["customer"] == customer:
        return method
    if method["customer"]:
        raise InvalidRequest(
            "The payment method you provided has already been attached to a customer.", param=param
        )
    card = BY_METHOD_ID.get(method["_card"] or "")
    if card and not card.attaches:
        assert card.refusal
        raise card_refused(REFUSALS[card.refusal])
    return world.save({**method, "customer": customer}, "payment_method.attached")


def card_refused(refusal: Refusal, **more: Any) -> CardRefused:
    return CardRefused(
        refusal.message, code=refusal.code, decline_code=refusal.decline_code, **more
    )


def new_intent(world: World, *, amount: int, currency: str, **fields: Any) -> Json:
    """A payment intent that waits for a payment method. Not yet saved."""
    intent = world.new(
        "payment_intent",
        amount=amount,
        currency=currency,
        status="requires_payment_method",
        capture_method="automatic_async",
        confirmation_method="automatic",
        payment_method_types=["card"],
        automatic_payment_methods={"enabled": True, "allow_redirects": "always"},
    )
    intent["client_secret"] = f"{intent['id']}_secret_{random_text()}"
    return {**intent, **fields}


def attempt(world: World, intent: Json, method: Json, *, off_session: bool) -> Refusal | None:
    """Try to pay. The refusal, if it was refused; the intent's status says the rest."""
    assert intent["status"] in WAITING, intent["status"]
    intent |= {"payment_method": method["id"], "last_payment_error": None, "next_action": None}
    if method["type"] == "sepa_debit":
        _start_debit(world, intent, method)
        return None
    card = BY_METHOD_ID[method["_card"]]
    refusal = world.decline or refusal_of(card, method)
    if refusal == "authentication_required" and not off_session:
        _ask_for_authentication(world, intent)
        return None
    if refusal:
        return _refuse(world, intent, method, REFUSALS[refusal])
    _succeed(world, intent, method)
    return None


def refusal_of(card: Card, method: Json) -> str | None:
    """What becomes of a payment with a card; a bank that was asked once may not ask again."""
    is_known = method.get("_set_up") and not card.always_asks
    return None if is_known and card.refusal == "authentication_required" else card.refusal


def conclude(world: World, intent: Json, *, refusal: str | None) -> Refusal | None:
    """The bank's late answer: to a debit, or to a customer's authentication."""
    assert intent["status"] in {"processing", "requires_action"}, intent["status"]
    method = world.referred("payment_method", intent["payment_method"], param="payment_method")
    intent["next_action"] = None
    if refusal:
        return _refuse(world, intent, method, REFUSALS[refusal])
    _succeed(world, intent, method)
    return None


def cancel(world: World, intent: Json, *, reason: str | None) -> Json:
    intent |= {"status": "canceled", "canceled_at": world.at, "cancellation_reason": reason}
    return world.save(intent, "payment_intent.canceled")


def _start_debit(world: World, intent: Json, method: Json) -> None:
    charge = _charge(world, intent, method, status="pending", paid=False)
    intent |= {"status": "processing", "latest_charge": charge["id"]}
    world.save(charge, "charge.pending")
    world.save(intent, "payment_intent.processing")


def _ask_for_authentication(world: World, intent: Json) -> None:
    action = world.part("payment_intent", "next_action", type="use_stripe_sdk")
    intent |= {"status": "requires_action", "next_action": action}
    world.save(intent, "payment_intent.requires_action")


def _succeed(world: World, intent: Json, method: Json) -> None:
    charge = _charge(world, intent, method, status="succeeded", paid=True)
    charge["amount_captured"] = charge["amount"]
    intent |= {
        "status": "succeeded",
        "latest_charge": charge["id"],
        "amount_received": intent["amount"],
    }
    if intent["setup_future_usage"] and intent["customer"]:
        attach(world, {**method, "_set_up": True}, customer=intent["customer"])
    world.save(charge, "charge.succeeded")
    world.save(intent, "payment_intent.succeeded")
    card = BY_METHOD_ID.get(method["_card"] or "")
    if card and card.dispute:
        disputes.open_dispute(world, charge, reason=card.dispute)


def _refuse(world: World, intent: Json, method: Json, refusal: Refusal) -> Refusal:
    charge = _charge(world, intent, method, status="failed", paid=False)
    charge |= {"failure_code": refusal.code, "failure_message": refusal.message}
    charge["outcome"] = world.part(
        "charge",
        "outcome",
        type="issuer_declined",
        network_status="declined_by_network",
        reason=refusal.decline_code,
        seller_message=refusal.message,
    )
    error = {
        "type": "card_error",
        "code": refusal.code,
        "decline_code": refusal.decline_code,
        "message": refusal.message,
        "charge": charge["id"],
        "payment_method": world.shown(method),
    }
    intent |= {
        "status": "requires_payment_method",
        "latest_charge": charge["id"],
        "payment_method": None,
        "last_payment_error": world.part("payment_intent", "last_payment_error", **error),
    }
    world.save(charge, "charge.failed")
    world.save(intent, "payment_intent.payment_failed")
    return refusal


def _charge(world: World, intent: Json, method: Json, *, status: str, paid: bool) -> Json:
    """The charge of an attempt; a debit that waits already has one."""
    pending = world.store.get(intent["latest_charge"] or "")
    if pending and pending["status"] == "pending":
        return {**pending, "status": status, "paid": paid}
    charge = world.new("charge")
    kind = method["type"]
    details = {
        name: value for name, value in method[kind].items() if name in _detail_names(world, kind)
    }
    return {
        **charge,
        "amount": intent["amount"],
        "currency": intent["currency"],
        "captured": status == "succeeded",
        "paid": paid,
        "status": status,
        "customer": intent["customer"],
        "description": intent["description"],
        "metadata": merged_metadata(None, intent["metadata"]),
        "payment_intent": intent["id"],
        "payment_method": method["id"],
        "billing_details": method["billing_details"],
        "payment_method_details": world.part(
            "charge",
            "payment_method_details",
            type=kind,
            **{kind: world.part("charge", "payment_method_details", kind, **details)},
        ),
        "outcome": world.part(
            "charge",
            "outcome",
            type="authorized",
            network_status="approved_by_network",
            risk_level="normal",
            seller_message="Payment complete.",
        ),
        "receipt_url": f"{world.address}/receipts/{charge['id']}",
    }


def _detail_names(world: World, kind: str) -> set[str]:
    return set(world.part("charge", "payment_method_details", kind))
