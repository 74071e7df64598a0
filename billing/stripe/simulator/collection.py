"""An invoice from open to paid: finalizing, attempts to collect, and what ends it otherwise.

Finalizing makes one default payment of the invoice with its payment intent. Whoever gets that
intent paid (the API, the hosted page, the automatic collection, a late bank answer) pays the
invoice.
"""

from typing import Any

from billing.stripe.simulator import payments
from billing.stripe.simulator.cards import Refusal
from billing.stripe.simulator.errors import InvalidRequest, Refused
from billing.stripe.simulator.invoice_lines import lines_of, require_draft, summed
from billing.stripe.simulator.world import World

Json = dict[str, Any]

DAY = 86_400
# Automatic collection begins an hour after finalizing and is repeated some days apart.
FIRST_ATTEMPT_AFTER = 3_600
NEXT_ATTEMPTS_AFTER = (3 * DAY, 5 * DAY, 7 * DAY)
# Refusals that no repetition cures.
HARD_REFUSALS = {"lost_card", "stolen_card", "fraudulent", "expired_card"}


def finalize(world: World, invoice: Json) -> Json:
    require_draft(invoice)
    invoice = summed(world, invoice)
    customer = world.referred("customer", invoice["customer"], param="customer")
    if not lines_of(world, invoice):
        raise InvalidRequest(
            "You cannot finalize an invoice without lines.",
            code="invoice_no_customer_line_items",
            param="invoice",
        )
    _check_tax_location(world, invoice, customer)
    invoice |= {
        "status": "open",
        "effective_at": world.at,
        "ending_balance": invoice["_ending_balance"],
        "number": invoice["number"] or _next_number(customer),
        "due_date": invoice["due_date"] or _due_date(world, invoice),
        "_payments": [],
    }
    customer |= {"balance": invoice["ending_balance"]}
    customer["currency"] = customer["currency"] or invoice["currency"]
    world.store.put(customer)
    invoice["status_transitions"]["finalized_at"] = world.at
    if invoice["amount_due"]:
        _add_default_payment(world, invoice)
    world.save(invoice, "invoice.finalized", "invoice.updated")
    return invoice if invoice["amount_due"] else mark_paid(world, invoice)


def _next_number(customer: Json) -> str:
    sequence = customer["next_invoice_sequence"]
    customer["next_invoice_sequence"] = sequence + 1
    return f"{customer['invoice_prefix']}-{sequence:04}"


def _due_date(world: World, invoice: Json) -> int | None:
    days: int | None = invoice["_days_until_due"]
    return None if days is None else world.at + days * DAY


def _check_tax_location(world: World, invoice: Json, customer: Json) -> None:
    if not invoice["automatic_tax"]["enabled"]:
        return
    if (customer["address"] or {}).get("country") and not world.has_no_tax_location:
        invoice["automatic_tax"]["status"] = "complete"
        return
    invoice["automatic_tax"]["status"] = "requires_location_inputs"
    error = {
        "type": "invalid_request_error",
        "code": "customer_tax_location_invalid",
        "message": "The customer's location isn't recognized. Set a valid customer address.",
    }
    invoice["last_finalization_error"] = world.part("invoice", "last_finalization_error", **error)
    world.save(invoice, "invoice.finalization_failed")
    refusal = InvalidRequest(error["message"], code=error["code"], param="customer")
    refusal.keeps_effects = True
    raise refusal


def _add_default_payment(world: World, invoice: Json) -> None:
    intent = payments.new_intent(
        world,
        amount=invoice["amount_due"],
        currency=invoice["currency"],
        customer=invoice["customer"],
        description=f"Payment for invoice {invoice['number']}",
        _invoice=invoice["id"],
    )
    world.save(intent, "payment_intent.created")
    payment = world.new(
        "invoice_payment",
        amount_requested=invoice["amount_due"],
        currency=invoice["currency"],
        invoice=invoice["id"],
        is_default=True,
        payment=world.part(
            "invoice_payment", "payment", type="payment_intent", payment_intent=intent["id"]
        ),
        status="open",
    )
    invoice["_intent"] = intent["id"]
    if invoice["auto_advance"] and invoice["collection_method"] == "charge_automatically":
        invoice["next_payment_attempt"] = world.at + FIRST_ATTEMPT_AFTER
    world.store.put(payment)


def default_method(world: World, invoice: Json) -> str | None:
    """The method an invoice is collected with: its own, or else its customer's."""
    customer = world.store.get(invoice["customer"]) or {}
    method: str | None = invoice["default_payment_method"] or (
        (customer.get("invoice_settings") or {}).get("default_payment_method")
    )
    return method


def collect(world: World, invoice: Json, method: Json, *, off_session: bool) -> Refusal | None:
    """One attempt to get an open invoice paid."""
    intent = intent_of(world, invoice)
    refusal = payments.attempt(world, intent, method, off_session=off_session)
    follow(world, invoice, intent, refusal)
    return refusal


def intent_of(world: World, invoice: Json) -> Json:
    return world.referred("payment_intent", invoice["_intent"], param="invoice")


def follow(world: World, invoice: Json, intent: Json, refusal: Refusal | None) -> None:
    """What an attempt on its payment intent means to the invoice."""
    invoice |= {"attempted": True, "attempt_count": invoice["attempt_count"] + 1}
    needs_customer = intent["status"] == "requires_action" or (
        refusal is not None and refusal.code == "authentication_required"
    )
    if needs_customer:
        world.save(invoice, "invoice.payment_action_required")
    if refusal:
        invoice["next_payment_attempt"] = _next_attempt(world, invoice, refusal)
        world.save(invoice, "invoice.payment_failed", "invoice.updated")
    elif intent["status"] == "succeeded":
        mark_paid(world, invoice)
    else:
        world.store.put(invoice)


def _next_attempt(world: World, invoice: Json, refusal: Refusal) -> int | None:
    made = invoice["attempt_count"]
    automatic = invoice["auto_advance"] and invoice["collection_method"] == "charge_automatically"
    final = refusal.decline_code in HARD_REFUSALS or made > len(NEXT_ATTEMPTS_AFTER)
    return world.at + NEXT_ATTEMPTS_AFTER[made - 1] if automatic and not final else None


def mark_paid(
    world: World, invoice: Json, *, out_of_band: bool = False, by_credit: bool = False
) -> Json:
    """Nothing is due any more: it was paid, or (`by_credit`) all that was due is credited."""
    paid = invoice["amount_due"]
    invoice |= {
        "status": "paid",
        "amount_paid": paid,
        "amount_remaining": 0,
        "attempted": True,
        "next_payment_attempt": None,
        "auto_advance": False,
    }
    if out_of_band:
        invoice["amount_paid_off_stripe"] = paid
    if out_of_band or by_credit:
        _cancel_payment(world, invoice)
    invoice["status_transitions"]["paid_at"] = world.at
    for payment in open_payments(world, invoice):
        payment |= {"status": "paid", "amount_paid": payment["amount_requested"]}
        payment["status_transitions"]["paid_at"] = world.at
        world.save(payment, "invoice_payment.paid")
    return world.save(invoice, "invoice.paid", "invoice.payment_succeeded", "invoice.updated")


def open_payments(world: World, invoice: Json) -> list[Json]:
    return world.store.find("invoice_payment", invoice=invoice["id"], status="open")


def _cancel_payment(world: World, invoice: Json, *, reason: str = "automatic") -> None:
    for payment in open_payments(world, invoice):
        payment["status"] = "canceled"
        payment["status_transitions"]["canceled_at"] = world.at
        world.save(payment)
        payments.cancel(world, intent_of(world, invoice), reason=reason)


def void(world: World, invoice: Json) -> Json:
    require_status(invoice, "open", "uncollectible")
    _cancel_payment(world, invoice, reason="void_invoice")
    invoice |= {"status": "void", "next_payment_attempt": None, "auto_advance": False}
    invoice["status_transitions"]["voided_at"] = world.at
    return world.save(invoice, "invoice.voided", "invoice.updated")


def write_off(world: World, invoice: Json) -> Json:
    require_status(invoice, "open")
    invoice |= {"status": "uncollectible", "next_payment_attempt": None, "auto_advance": False}
    invoice["status_transitions"]["marked_uncollectible_at"] = world.at
    return world.save(invoice, "invoice.marked_uncollectible", "invoice.updated")


def require_status(invoice: Json, *statuses: str) -> None:
    if invoice["status"] not in statuses:
        raise InvalidRequest(
            f"The invoice is {invoice['status']}; it must be {' or '.join(statuses)}.",
            code="invoice_already_paid" if invoice["status"] == "paid" else "status_invalid",
            param="invoice",
        )


def collect_due(world: World) -> None:
    """Automatic collection of what is due by now, and word of what is overdue."""
    for invoice in world.store.find("invoice", status="open"):
        if invoice["next_payment_attempt"] and invoice["next_payment_attempt"] <= world.at:
            _collect_automatically(world, invoice)
        if invoice["due_date"] and invoice["due_date"] < world.at and not invoice.get("_overdue"):
            invoice["_overdue"] = True
            world.save(invoice, "invoice.overdue")


def _collect_automatically(world: World, invoice: Json) -> None:
    method_id = default_method(world, invoice)
    intent = intent_of(world, invoice)
    if method_id is None or intent["status"] not in payments.WAITING:
        world.store.put({**invoice, "next_payment_attempt": None})
        return
    try:
        with world.store.savepoint():
            method = payments.usable_method(
                world, method_id, customer=invoice["customer"], param="default_payment_method"
            )
            collect(world, {**invoice}, method, off_session=True)
    except Refused:  # nothing that another attempt would cure, nor a reason to stop the clock
        world.store.put({**invoice, "next_payment_attempt": None})
