"""The customer's own page at Stripe: its invoices, its cards, its address and tax id."""

import html
import re
from collections.abc import Callable
from typing import Any

from billing.stripe.simulator import customers, payments
from billing.stripe.simulator.errors import InvalidRequest
from billing.stripe.simulator.money import shown_amount
from billing.stripe.simulator.pages import (
    Form,
    Mistyped,
    Page,
    card_fields,
    link_to,
    note,
    page,
    shown_alert,
    template,
    typed_method,
)
from billing.stripe.simulator.registry import operation
from billing.stripe.simulator.world import World

Json = dict[str, Any]

COUNTRY = re.compile(r"[A-Z]{2}")
PAGING = "limit starting_after ending_before"


@operation("POST", "/v1/billing_portal/sessions", takes="customer return_url")
def create(world: World, params: Json) -> Json:
    if "customer" not in params:
        raise InvalidRequest(
            "Missing required param: customer.", code="parameter_missing", param="customer"
        )
    customer = world.referred("customer", params["customer"], param="customer")
    session = world.new(
        "billing_portal.session",
        customer=customer["id"],
        configuration="bpc_simulated",
        return_url=params.get("return_url"),
    )
    session["url"] = f"{world.address}/p/session/{session['id']}"
    return world.shown(world.save(session))


@operation("POST", "/v1/customers/{customer}/tax_ids", takes="type value")
def create_tax_id(world: World, params: Json, customer: str) -> Json:
    world.addressed("customer", customer)
    return world.shown(_new_tax_id(world, customer, kind=params["type"], value=params["value"]))


@operation("GET", "/v1/customers/{customer}/tax_ids", takes=PAGING)
def list_tax_ids(world: World, params: Json, customer: str) -> Json:
    world.addressed("customer", customer)
    found = world.store.find("tax_id", customer=customer)
    return world.listed(found[::-1], params, url=f"/v1/customers/{customer}/tax_ids")


def _new_tax_id(world: World, customer: str, *, kind: str, value: str) -> Json:
    tax_id = world.new(
        "tax_id",
        customer=customer,
        type=kind,
        value=value,
        country=value[:2] if kind == "eu_vat" else None,
    )
    return world.save(tax_id, "customer.tax_id.created")


def portal_page(world: World, session_id: str, form: Form | None) -> Page:
    """GET (no form) and POST of /p/session/{session}."""
    session = world.store.get(session_id)
    if session is None or session["object"] != "billing_portal.session":
        return note("No such page", "This page does not exist.", status=404)
    customer = world.referred("customer", session["customer"], param="customer")
    if form is None:
        return _shown(world, session, customer, {})
    act = ACTS.get(form.get("act", ""))
    try:
        if act is None:
            raise Mistyped("Choose what to do.")
        act(world, customer, form)
    except Mistyped as mistake:
        return _shown(world, session, customer, form, alert=str(mistake), status=400)
    return Page(status=303, location=f"/p/session/{session_id}")


def _add(world: World, customer: Json, form: Form) -> None:
    """As a card is set up: its bank was asked, and it may be charged later."""
    method = typed_method(world, {"customer": customer["id"]}, form)
    saved = payments.attach(world, {**method, "_set_up": True}, customer=customer["id"])
    settings = {"default_payment_method": saved["id"]}
    customers.update(world, {"invoice_settings": settings}, customer["id"])


def _make_default(world: World, customer: Json, form: Form) -> None:
    settings = {"default_payment_method": _own_method(world, customer, form)}
    customers.update(world, {"invoice_settings": settings}, customer["id"])


def _remove(world: World, customer: Json, form: Form) -> None:
    customers.detach_method(world, {}, _own_method(world, customer, form))


def _own_method(world: World, customer: Json, form: Form) -> str:
    known = {method["id"] for method in _methods(world, customer)}
    if form.get("method") not in known:
        raise Mistyped("This card is not kept any more.")
    return form["method"]


def _details(world: World, customer: Json, form: Form) -> None:
    country = form.get("country", "").strip().upper()
    if not COUNTRY.fullmatch(country):
        raise Mistyped("Enter the country by its two letters.")
    address = {"country": country, "postal_code": form.get("postal_code", "").strip()}
    customers.update(world, {"address": address}, customer["id"])
    value = form.get("tax_id", "").strip()
    if value and value not in {one["value"] for one in _tax_ids(world, customer)}:
        _new_tax_id(world, customer["id"], kind="eu_vat", value=value)


ACTS: dict[str, Callable[[World, Json, Form], None]] = {
    "add": _add,
    "default": _make_default,
    "remove": _remove,
    "details": _details,
}


def _methods(world: World, customer: Json) -> list[Json]:
    return world.store.find("payment_method", customer=customer["id"])


def _tax_ids(world: World, customer: Json) -> list[Json]:
    return world.store.find("tax_id", customer=customer["id"])


def _shown(
    world: World, session: Json, customer: Json, form: Form, *, alert: str = "", status: int = 200
) -> Page:
    address = customer["address"] or {}
    tax_ids = _tax_ids(world, customer)
    invoices = world.store.find("invoice", customer=customer["id"])[::-1]
    issued = [invoice for invoice in invoices if invoice["status"] != "draft"]
    content = template("portal.html").substitute(
        name=html.escape(customer["name"] or customer["email"] or customer["id"]),
        back=link_to(session["return_url"], "Back to the shop"),
        invoices="".join(_invoice(world, one) for one in issued) or "<tr><td>None yet.</td></tr>",
        methods="".join(_method(customer, one) for one in _methods(world, customer)),
        alert=shown_alert(alert),
        country=html.escape(address.get("country") or ""),
        postal_code=html.escape(address.get("postal_code") or ""),
        tax_id=html.escape(tax_ids[-1]["value"] if tax_ids else ""),
        **card_fields(form),
    )
    return page("Billing", content, status=status)


def _invoice(world: World, invoice: Json) -> str:
    link = html.escape(world.shown(invoice)["hosted_invoice_url"])
    total = html.escape(shown_amount(invoice["total"], invoice["currency"]))
    return (
        f'<tr><th scope="row"><a href="{link}">{html.escape(invoice["number"])}</a>'
        f"<small>{invoice['status']}</small></th><td>{total}</td></tr>"
    )


def _method(customer: Json, method: Json) -> str:
    shown = method[method["type"]]
    name = html.escape(f"{shown.get('brand') or method['type']} ending in {shown['last4']}")
    is_default = customer["invoice_settings"]["default_payment_method"] == method["id"]
    hidden = f'<input type="hidden" name="method" value="{html.escape(method["id"])}">'
    buttons = "".join(
        f'<button name="act" value="{act}" class="plain">{text}<span> {name}</span></button>'
        for act, text in (("default", "Make default"), ("remove", "Remove"))
        if not (is_default and act == "default")
    )
    mark = "<small>Default</small>" if is_default else ""
    return f'<form method="post"><p>{name}{mark}</p>{hidden}{buttons}</form>'
