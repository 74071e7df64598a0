"""Invoices, as the API shows and changes them.

draft -> open -> paid | void | uncollectible        uncollectible -> paid | void
"""

from typing import Any

from billing.stripe.simulator import collection, payments
from billing.stripe.simulator.errors import InvalidRequest, Unsupported
from billing.stripe.simulator.invoice_lines import (
    LINES_SHOWN,
    lines_of,
    require_draft,
    summed,
)
from billing.stripe.simulator.money import checked_currency
from billing.stripe.simulator.registry import includable, look, operation
from billing.stripe.simulator.world import World, merged_metadata, unset

Json = dict[str, Any]

DAYS_UNTIL_DUE_MAX = 365 * 5
TEXTS = ["auto_advance", "custom_fields", "description", "footer", "number"]
EDITABLE_WHEN_FINAL = {"metadata", "auto_advance", "default_payment_method", "expand"}
TAKEN = (
    f"{' '.join(TEXTS)} automatic_tax.enabled collection_method days_until_due due_date"
    " default_payment_method metadata"
)


@look("invoice")
def shown(world: World, invoice: Json) -> Json:
    lines = lines_of(world, invoice)
    address = f"{world.address}/i/{invoice['id']}"
    finalized = invoice["status"] != "draft"
    return {
        "lines": {
            "object": "list",
            "data": [world.shown(line) for line in lines[:LINES_SHOWN]],
            "has_more": len(lines) > LINES_SHOWN,
            "total_count": len(lines),
            "url": f"/v1/invoices/{invoice['id']}/lines",
        },
        "hosted_invoice_url": address if finalized else None,
        "invoice_pdf": f"{address}/pdf" if finalized else None,
    }


@includable("invoice", "payments")
def with_payments(world: World, invoice: Json) -> Json:
    payments_made = world.store.find("invoice_payment", invoice=invoice["id"])
    url = f"/v1/invoice_payments?invoice={invoice['id']}"
    return {"payments": world.listed(payments_made, {}, url=url)}


@includable("invoice", "confirmation_secret")
def with_confirmation_secret(world: World, invoice: Json) -> Json:
    stored = world.store.get(invoice["id"]) or {}
    intent = world.store.get(stored.get("_intent") or "")
    secret = intent and {"client_secret": intent["client_secret"], "type": "payment_intent"}
    return {"confirmation_secret": secret}


@operation(
    "POST", "/v1/invoices", takes=f"{TAKEN} customer currency pending_invoice_items_behavior"
)
def create(world: World, params: Json) -> Json:
    if "customer" not in params:
        raise InvalidRequest(
            "Missing required param: customer.", code="parameter_missing", param="customer"
        )
    if params.get("pending_invoice_items_behavior", "exclude") != "exclude":
        raise Unsupported("pending invoice items", param="pending_invoice_items_behavior")
    customer = world.referred("customer", params["customer"], param="customer")
    invoice = world.new(
        "invoice",
        customer=customer["id"],
        currency=_currency(customer, params),
        status="draft",
        auto_advance=False,
        billing_reason="manual",
        collection_method="charge_automatically",
        issuer=world.part("invoice", "issuer", type="self"),
        metadata={},
        period_start=world.at,
        period_end=world.at,
        total_discount_amounts=[],
        total_pretax_credit_amounts=[],
        total_taxes=[],
        customer_tax_ids=[],
        _days_until_due=None,
        _intent=None,
    )
    invoice |= {f"customer_{name}": customer[name] for name in COPIED}
    changed = _changed(world, invoice, params)
    _check_collection(changed)
    return world.shown(world.save(changed, "invoice.created"))


COPIED = ["address", "email", "name", "phone", "shipping", "tax_exempt"]


def _currency(customer: Json, params: Json) -> str:
    currency = params.get("currency") or customer["currency"]
    if not currency:
        raise InvalidRequest(
            "Missing required param: currency.", code="parameter_missing", param="currency"
        )
    checked_currency(currency, param="currency")
    if customer["currency"] not in (None, currency):
        raise InvalidRequest(
            f"You cannot combine currencies on a single customer. This customer's is"
            f" {customer['currency']}.",
            param="currency",
        )
    return str(currency)


def _changed(world: World, invoice: Json, params: Json) -> Json:
    invoice = {**invoice, **unset(params, *TEXTS, "collection_method", "due_date")}
    if "days_until_due" in params:
        invoice["_days_until_due"] = params["days_until_due"]
    if invoice["auto_advance"] and invoice["status"] == "draft":
        raise Unsupported(
            "drafts that finalize themselves: send auto_advance=false", param="auto_advance"
        )
    invoice["metadata"] = merged_metadata(invoice["metadata"], params.get("metadata"))
    if "automatic_tax" in params:
        invoice["automatic_tax"]["enabled"] = params["automatic_tax"]["enabled"]
    if "default_payment_method" in params:
        invoice["default_payment_method"] = _own_method(world, invoice, params)
    return summed(world, invoice) if invoice["status"] == "draft" else invoice


def _own_method(world: World, invoice: Json, params: Json) -> str | None:
    method_id: str = params["default_payment_method"]
    if not method_id:
        return None
    method = world.referred("payment_method", method_id, param="default_payment_method")
    if method["customer"] != invoice["customer"]:
        raise InvalidRequest(
            f"The payment method {method_id} must be attached to the customer",
            param="default_payment_method",
        )
    return method_id


def _check_collection(invoice: Json) -> None:
    """Invoices that are sent need a due date and an address; the others have neither."""
    due_in, due_on = invoice["_days_until_due"], invoice["due_date"]
    if invoice["collection_method"] == "send_invoice":
        if (due_in is None) == (due_on is None):
            raise InvalidRequest(
                "send_invoice needs exactly one of days_until_due and due_date.",
                param="days_until_due",
            )
        if not invoice["customer_email"]:
            raise InvalidRequest(
                "Missing email. To be sent an invoice, the customer must have an email.",
                code="customer_email_missing",
                param="customer",
            )
        if due_in is not None and not 0 <= due_in <= DAYS_UNTIL_DUE_MAX:
            raise InvalidRequest(
                f"days_until_due must be between 0 and {DAYS_UNTIL_DUE_MAX}",
                param="days_until_due",
            )
    elif due_in is not None or due_on is not None:
        raise InvalidRequest(
            "You can only set days_until_due or due_date with collection_method=send_invoice.",
            param="days_until_due" if due_in is not None else "due_date",
        )


@operation("POST", "/v1/invoices/{invoice}", takes=TAKEN)
def update(world: World, params: Json, invoice: str) -> Json:
    existing = world.addressed("invoice", invoice)
    if set(params) - EDITABLE_WHEN_FINAL:
        require_draft(existing)
    changed = _changed(world, existing, params)
    _check_collection(changed)
    return world.shown(world.save(changed, "invoice.updated"))


@operation("GET", "/v1/invoices/{invoice}")
def retrieve(world: World, params: Json, invoice: str) -> Json:
    return world.shown(world.addressed("invoice", invoice))


@operation("DELETE", "/v1/invoices/{invoice}")
def delete(world: World, params: Json, invoice: str) -> Json:
    existing = world.addressed("invoice", invoice)
    require_draft(existing)
    world.emit("invoice.deleted", existing)
    for line in lines_of(world, existing):
        world.store.remove(line["id"])
    world.store.remove(invoice)
    return {"id": invoice, "object": "invoice", "deleted": True}


PAGING = "created limit starting_after ending_before"


@operation("GET", "/v1/invoices", takes=f"customer status collection_method {PAGING}")
def list_invoices(world: World, params: Json) -> Json:
    fields = unset(params, "customer", "status", "collection_method")
    return world.listed(world.store.find("invoice", **fields)[::-1], params, url="/v1/invoices")


@operation("POST", "/v1/invoices/{invoice}/finalize", takes="auto_advance")
def finalize_invoice(world: World, params: Json, invoice: str) -> Json:
    draft = world.addressed("invoice", invoice)
    require_draft(draft)
    draft |= unset(params, "auto_advance")
    return world.shown(collection.finalize(world, draft))


@operation(
    "POST", "/v1/invoices/{invoice}/pay", takes="off_session paid_out_of_band payment_method"
)
def pay(world: World, params: Json, invoice: str) -> Json:
    existing = world.addressed("invoice", invoice)
    collection.require_status(existing, "open", "uncollectible")
    if params.get("paid_out_of_band"):
        return world.shown(collection.mark_paid(world, existing, out_of_band=True))
    intent = collection.intent_of(world, existing)
    if intent["status"] not in payments.WAITING:
        raise InvalidRequest(
            f"The invoice's payment is {intent['status']}.",
            code="payment_intent_unexpected_state",
            param="invoice",
        )
    method = payments.usable_method(
        world,
        params.get("payment_method") or _default(world, existing),
        customer=existing["customer"],
        param="payment_method",
    )
    # Stripe's default: a payment of an invoice by the API is off session.
    off_session = params.get("off_session", True)
    refusal = collection.collect(world, existing, method, off_session=off_session)
    if refusal:
        intent = collection.intent_of(world, existing)
        raise payments.card_refused(refusal, payment_intent=world.shown(intent))
    return world.shown(world.addressed("invoice", invoice))


def _default(world: World, invoice: Json) -> str:
    method = collection.default_method(world, invoice)
    if method is None:
        raise InvalidRequest(
            "There is no `default_payment_method` set on this Customer or Invoice. Please set"
            " either the `invoice_settings.default_payment_method` on the Customer or the"
            " `default_payment_method` on the Invoice.",
            code="resource_missing",
            param="payment_method",
        )
    return method


@operation("POST", "/v1/invoices/{invoice}/send")
def send_invoice(world: World, params: Json, invoice: str) -> Json:
    existing = world.addressed("invoice", invoice)
    collection.require_status(existing, "open")
    if existing["collection_method"] != "send_invoice":
        raise InvalidRequest(
            "You can only manually send an invoice if its collection method is 'send_invoice'.",
            param="invoice",
        )
    return world.shown(world.save(existing, "invoice.sent"))


@operation("POST", "/v1/invoices/{invoice}/void")
def void_invoice(world: World, params: Json, invoice: str) -> Json:
    return world.shown(collection.void(world, world.addressed("invoice", invoice)))


@operation("POST", "/v1/invoices/{invoice}/mark_uncollectible")
def mark_uncollectible(world: World, params: Json, invoice: str) -> Json:
    return world.shown(collection.write_off(world, world.addressed("invoice", invoice)))


@operation("GET", "/v1/invoice_payments/{invoice_payment}")
def retrieve_payment(world: World, params: Json, invoice_payment: str) -> Json:
    return world.shown(world.addressed("invoice_payment", invoice_payment))


@operation("GET", "/v1/invoice_payments", takes=f"invoice status payment {PAGING}")
def list_payments(world: World, params: Json) -> Json:
    fields = unset(params, "invoice", "status")
    if wanted := params.get("payment"):
        fields[f"payment__{wanted['type']}"] = wanted.get(wanted["type"])
    found = world.store.find("invoice_payment", **fields)[::-1]
    return world.listed(found, params, url="/v1/invoice_payments")
