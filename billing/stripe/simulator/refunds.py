"""Refunds: all or part of a charge goes back.

    succeeded                          at once, as most do
    succeeded -> failed                the bank sends it back days later
    pending   -> succeeded | canceled

A failed or canceled refund leaves the charge as if it had never been.
"""

from typing import Any

from billing.stripe.simulator.cards import BY_METHOD_ID
from billing.stripe.simulator.errors import InvalidRequest
from billing.stripe.simulator.money import checked_amount
from billing.stripe.simulator.registry import operation
from billing.stripe.simulator.world import World, merged_metadata, unset

Json = dict[str, Any]

PAGING = "created limit starting_after ending_before"
DAY = 86_400
FAILURE_REASON = "expired_or_canceled_card"


@operation("POST", "/v1/refunds", takes="amount charge metadata payment_intent reason")
def create(world: World, params: Json) -> Json:
    """Give back all or part of a charge, never more than it still holds."""
    charge = _charge_named(world, params)
    amount = params.get("amount", charge["amount"] - charge["amount_refunded"])
    given = {"metadata": merged_metadata(None, params.get("metadata"))}
    return world.shown(give_back(world, charge, amount, reason=params.get("reason"), **given))


def give_back(world: World, charge: Json, amount: int, **fields: Any) -> Json:
    """A new refund. The charge's card, or a fault, says what becomes of it in a day."""
    _require_refundable(world, charge, amount)
    later = world.refund or _card_says(world, charge)
    refund = world.new(
        "refund",
        amount=amount,
        currency=charge["currency"],
        charge=charge["id"],
        payment_intent=charge["payment_intent"],
        status="succeeded" if later in (None, "failed") else "pending",
        pending_reason=None if later in (None, "failed") else "processing",
        _later=later,
        _later_at=world.at + DAY,
        **fields,
    )
    _take_from(charge, amount)
    world.save(charge, "charge.refunded")
    return world.save(refund, "refund.created", "charge.refund.updated")


def conclude(world: World, refund: Json, *, outcome: str) -> Json:
    """The bank's last word on a refund."""
    may = {"pending": {"succeeded", "failed", "canceled"}, "succeeded": {"failed"}}
    if outcome not in may.get(refund["status"], set()):
        raise InvalidRequest(
            f"The refund is {refund['status']}: it cannot become {outcome}.", param="refund"
        )
    refund |= {"status": outcome, "pending_reason": None, "_later": None}
    if outcome == "succeeded":
        return world.save(refund, "refund.updated", "charge.refund.updated")
    charge = world.referred("charge", refund["charge"], param="refund")
    _take_from(charge, -refund["amount"])
    world.store.put(charge)
    events = ["refund.updated", "charge.refund.updated"]
    if outcome == "failed":
        refund["failure_reason"] = FAILURE_REASON
        events.append("refund.failed")
    return world.save(refund, *events)


def conclude_due(world: World) -> None:
    """What was to happen to refunds by now."""
    for refund in world.store.find("refund"):
        if refund.get("_later") and refund["_later_at"] <= world.at:
            conclude(world, refund, outcome=refund["_later"])


def _take_from(charge: Json, amount: int) -> None:
    charge["amount_refunded"] += amount
    charge["refunded"] = charge["amount_refunded"] == charge["amount"]


def _card_says(world: World, charge: Json) -> str | None:
    method = world.store.get(charge["payment_method"] or "") or {}
    card = BY_METHOD_ID.get(method.get("_card") or "")
    return card.refund if card else None


def _require_refundable(world: World, charge: Json, amount: int) -> None:
    checked_amount(amount, charge["currency"], param="amount")
    left = charge["amount"] - charge["amount_refunded"]
    disputes = world.store.find("dispute", charge=charge["id"])
    if any(not one["is_charge_refundable"] and one["status"] != "won" for one in disputes):
        raise InvalidRequest(
            f"Charge {charge['id']} has been charged back; cannot issue a refund.",
            code="charge_disputed",
            param="charge",
        )
    if left == 0:
        raise InvalidRequest(
            f"Charge {charge['id']} has already been refunded.",
            code="charge_already_refunded",
            param="charge",
        )
    if not 0 < amount <= left:
        raise InvalidRequest(
            f"Refund amount ({amount}) must be positive and at most the unrefunded amount"
            f" ({left}).",
            param="amount",
        )


def _charge_named(world: World, params: Json) -> Json:
    if ("charge" in params) == ("payment_intent" in params):
        raise InvalidRequest(
            "One of charge and payment_intent is required.",
            code="parameter_missing",
            param="payment_intent",
        )
    charge_id = params.get("charge", "")
    if intent_id := params.get("payment_intent"):
        intent = world.referred("payment_intent", intent_id, param="payment_intent")
        charge_id = intent["latest_charge"] or ""
    param = "payment_intent" if intent_id else "charge"
    charge = world.store.get(charge_id)
    if charge is None or charge["object"] != "charge" or charge["status"] != "succeeded":
        raise InvalidRequest(
            "There is no successful charge to refund.",
            code="resource_missing" if charge is None else "charge_not_refundable",
            param=param,
        )
    return charge


@operation("POST", "/v1/refunds/{refund}", takes="metadata")
def update(world: World, params: Json, refund: str) -> Json:
    existing = world.addressed("refund", refund)
    existing["metadata"] = merged_metadata(existing["metadata"], params.get("metadata"))
    return world.shown(world.save(existing, "refund.updated"))


@operation("GET", "/v1/refunds/{refund}")
def retrieve(world: World, params: Json, refund: str) -> Json:
    return world.shown(world.addressed("refund", refund))


@operation("GET", "/v1/refunds", takes=f"charge payment_intent {PAGING}")
def list_refunds(world: World, params: Json) -> Json:
    found = world.store.find("refund", **unset(params, "charge", "payment_intent"))
    return world.listed(found[::-1], params, url="/v1/refunds")
