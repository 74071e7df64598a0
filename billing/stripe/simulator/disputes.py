"""Disputes: a cardholder asks the bank to take a payment back.

needs_response -> under_review -> won | lost           the money is withdrawn at the opening
warning_needs_response -> warning_under_review -> warning_closed | needs_response
                                                       an inquiry: no money has moved
"""

from typing import Any

from billing.stripe.simulator.errors import InvalidRequest
from billing.stripe.simulator.registry import operation
from billing.stripe.simulator.world import World, merged_metadata, unset

Json = dict[str, Any]

DAYS_TO_ANSWER = 10
DAY = 86_400
OPEN = {"needs_response", "under_review", "warning_needs_response", "warning_under_review"}
CLOSED = {"won", "lost", "warning_closed", "prevented"}
PAGING = "created limit starting_after ending_before"


def open_dispute(
    world: World, charge: Json, *, reason: str = "fraudulent", amount: int | None = None
) -> Json:
    """The bank opens a dispute of a charge; the reason "inquiry": it only asks about it."""
    left = charge["amount"] - charge["amount_refunded"]
    amount = left if amount is None else amount
    if charge["status"] != "succeeded" or charge["disputed"] or not 0 < amount <= charge["amount"]:
        raise InvalidRequest(f"Charge {charge['id']} cannot be disputed.", param="charge")
    is_inquiry = reason == "inquiry"
    dispute = world.new(
        "dispute",
        amount=amount,
        currency=charge["currency"],
        charge=charge["id"],
        payment_intent=charge["payment_intent"],
        reason="general" if is_inquiry else reason,
        status="warning_needs_response" if is_inquiry else "needs_response",
        is_charge_refundable=is_inquiry,
        metadata={},
    )
    dispute["evidence_details"] |= {"due_by": world.at + DAYS_TO_ANSWER * DAY}
    charge["disputed"] = True
    world.store.put(charge)
    world.save(dispute, "charge.dispute.created")
    if not is_inquiry:
        world.save(dispute, "charge.dispute.funds_withdrawn")
    return dispute


def escalate(world: World, dispute: Json) -> Json:
    """An inquiry becomes a dispute: the money is withdrawn now."""
    if not dispute["status"].startswith("warning_") or dispute["status"] in CLOSED:
        raise InvalidRequest("Only an open inquiry becomes a dispute.", param="dispute")
    dispute |= {"status": "needs_response", "is_charge_refundable": False}
    return world.save(dispute, "charge.dispute.updated", "charge.dispute.funds_withdrawn")


def close(world: World, dispute: Json, *, outcome: str) -> Json:
    """The bank decides."""
    is_inquiry = dispute["status"].startswith("warning_")
    if dispute["status"] not in OPEN or is_inquiry != (outcome == "warning_closed"):
        raise InvalidRequest(
            f"The dispute is {dispute['status']}: it cannot become {outcome}.", param="dispute"
        )
    dispute["status"] = outcome
    if outcome in {"won", "prevented"}:
        world.save(dispute, "charge.dispute.funds_reinstated")
    return world.save(dispute, "charge.dispute.closed")


@operation("GET", "/v1/disputes/{dispute}")
def retrieve(world: World, params: Json, dispute: str) -> Json:
    return world.shown(world.addressed("dispute", dispute))


@operation("GET", "/v1/disputes", takes=f"charge payment_intent {PAGING}")
def list_disputes(world: World, params: Json) -> Json:
    found = world.store.find("dispute", **unset(params, "charge", "payment_intent"))
    return world.listed(found[::-1], params, url="/v1/disputes")


@operation("POST", "/v1/disputes/{dispute}", takes="evidence.uncategorized_text metadata submit")
def update(world: World, params: Json, dispute: str) -> Json:
    existing = world.addressed("dispute", dispute)
    existing["metadata"] = merged_metadata(existing["metadata"], params.get("metadata"))
    if "evidence" in params:
        existing["evidence"] |= params["evidence"]
        existing["evidence_details"]["has_evidence"] = True
    # Stripe submits unless told otherwise.
    if "evidence" in params and params.get("submit", True):
        if existing["status"] not in OPEN:
            raise InvalidRequest("The dispute is closed.", param="dispute")
        existing["evidence_details"]["submission_count"] += 1
        is_inquiry = existing["status"].startswith("warning_")
        existing["status"] = "warning_under_review" if is_inquiry else "under_review"
    return world.shown(world.save(existing, "charge.dispute.updated"))


@operation("POST", "/v1/disputes/{dispute}/close")
def accept(world: World, params: Json, dispute: str) -> Json:
    """The vendor gives in: the dispute is lost."""
    return world.shown(close(world, world.addressed("dispute", dispute), outcome="lost"))
