"""The hosted pages: Checkout, and an invoice to be paid. Plain HTML, no script, one form each.

What is shown comes from the store and is escaped; what is sent is checked as if a stranger had
typed it. A page that was paid leads on to the shop, however often it is sent.
"""

import html
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

from billing.stripe.simulator import cards, checkout, collection, intents, payments, setups
from billing.stripe.simulator.cards import CARDS, Refusal
from billing.stripe.simulator.invoice_lines import lines_of
from billing.stripe.simulator.money import shown_amount
from billing.stripe.simulator.world import World

Json = dict[str, Any]
Form = Mapping[str, str]

TEMPLATES = Path(__file__).parent / "templates"
EXPIRY = re.compile(r"\s*(\d\d?)\s*/\s*(\d\d)\s*")
PREFILLED = {"number": "4242 4242 4242 4242", "expiry": "12/34", "cvc": "123", "email": ""}


@dataclass(frozen=True, kw_only=True)
class Page:
    """An answer to a browser: HTML, or where to go instead."""

    status: int = 200
    body: str = ""
    location: str | None = None


class Mistyped(Exception):
    """The form cannot be read; the text says what to change."""


@cache
def template(name: str) -> Template:
    return Template((TEMPLATES / name).read_text(encoding="utf-8"))


def page(title: str, content: str, *, status: int = 200, single: bool = False) -> Page:
    body = template("page.html").substitute(
        title=html.escape(title),
        css=template("page.css").template,
        layout="single" if single else "pair-of-columns",
        content=content,
    )
    return Page(status=status, body=body)


def note(heading: str, text: str, *, status: int = 200, link: str = "") -> Page:
    content = template("note.html").substitute(
        heading=html.escape(heading), text=html.escape(text), link=link
    )
    return page(heading, content, status=status, single=True)


def checkout_page(world: World, session_id: str, form: Form | None) -> Page:
    """GET (no form) and POST of /c/pay/{session}."""
    session = world.store.get(session_id)
    if session is None or session["object"] != "checkout.session":
        return note("No such page", "This payment page does not exist.", status=404)
    if session["status"] == "complete":
        return _to_shop(session) if form is not None else _paid_note(session)
    if session["status"] == "expired" or session["expires_at"] <= world.at:
        link = link_to(session["cancel_url"], "Back to the shop")
        return note("This page has expired", "Ask the shop for a new one.", status=410, link=link)
    if form is None:
        return _checkout_form(world, session, PREFILLED)
    return _checkout_sent(world, session, form)


def _checkout_sent(world: World, session: Json, form: Form) -> Page:
    is_setup = session["mode"] == "setup"
    try:
        refusal = (_setup_attempt if is_setup else _payment_attempt)(world, session, form)
    except Mistyped as mistake:
        return _checkout_form(world, session, form, alert=str(mistake), status=400)
    if session["status"] == "complete":
        return _to_shop(session)
    kind = "setup_intent" if is_setup else "payment_intent"
    intent = world.referred(kind, session[kind], param="session")
    if intent["status"] == "requires_action":
        return _challenge(intent)
    assert refusal is not None
    return _checkout_form(world, session, form, alert=refusal.message, status=402)


def _payment_attempt(world: World, session: Json, form: Form) -> Refusal | None:
    if "challenge" not in form:
        return checkout.pay(world, session, typed_method(world, session, form))
    intent = _challenged(world, session["payment_intent"], form)
    refusal = payments.conclude(world, intent, refusal=_challenge_refusal(form))
    checkout.follow(world, session, intent, refusal)
    return refusal


def _setup_attempt(world: World, session: Json, form: Form) -> Refusal | None:
    if "challenge" not in form:
        return checkout.keep_card(world, session, typed_method(world, session, form))
    intent = _challenged(world, session["setup_intent"], form)
    refusal = setups.conclude(world, intent, refusal=_challenge_refusal(form))
    checkout.follow_setup(world, session, intent)
    return refusal


def _to_shop(session: Json) -> Page:
    location = session["success_url"].replace("{CHECKOUT_SESSION_ID}", session["id"])
    return Page(status=303, location=location)


def _paid_note(session: Json) -> Page:
    link = link_to(_to_shop(session).location, "Back to the shop")
    return note("This has been paid", "There is nothing left to do here.", link=link)


def link_to(address: str | None, text: str) -> str:
    if not address:
        return ""
    return f'<a class="button plain" href="{html.escape(address)}">{html.escape(text)}</a>'


def _checkout_form(
    world: World, session: Json, form: Form, *, alert: str = "", status: int = 200
) -> Page:
    if session["mode"] == "setup":
        content = template("setup.html").substitute(
            shop="This shop",
            alert=shown_alert(alert),
            cancel=link_to(session["cancel_url"], "Cancel"),
            **card_fields(form),
        )
        return page("Keep a card", content, status=status)
    items = checkout.items_of(world, session)
    names = ", ".join(item["description"] or "" for item in items[:3])
    content = _pay_form(
        heading=names or "Payment",
        rows=[(item["description"], item["quantity"], item["amount_total"]) for item in items],
        total=session["amount_total"],
        currency=session["currency"],
        form=form,
        alert=alert,
        ask_email=not (session["customer"] or session["customer_email"]),
        debit=checkout.DELAYED in session["payment_method_types"],
        cancel=link_to(session["cancel_url"], "Cancel"),
    )
    return page(
        f"Pay {shown_amount(session['amount_total'], session['currency'])}", content, status=status
    )


def _pay_form(
    *,
    heading: str,
    rows: list[tuple[str | None, int, int]],
    total: int,
    currency: str,
    form: Form,
    alert: str,
    ask_email: bool,
    debit: bool,
    cancel: str,
) -> str:
    values = {**PREFILLED, **form}
    email = (
        '<label>Email <input name="email" type="email" required'
        f' value="{html.escape(values["email"])}"></label>'
    )
    return template("checkout.html").substitute(
        heading=html.escape(heading),
        total=html.escape(shown_amount(total, currency)),
        items="\n".join(_row(*row, currency) for row in rows),
        alert=shown_alert(alert),
        email=email if ask_email else "",
        ways=WAYS if debit else "",
        cancel=cancel,
        **card_fields(form),
    )


def card_fields(form: Form) -> dict[str, str]:
    """The part of a form that asks for a card, and the list of those that can be typed there."""
    values = {**PREFILLED, **form}
    card = template("card.html").substitute(
        cards="".join(f'<option value="{card.number}">{card.hint}</option>' for card in CARDS),
        **{name: html.escape(values[name]) for name in ("number", "expiry", "cvc")},
    )
    hints = "".join(_hint(card) for card in CARDS if card.hint)
    return {"card": card, "test_cards": template("test_cards.html").substitute(hints=hints)}


def shown_alert(text: str) -> str:
    return f'<p role="alert">{html.escape(text)}</p>' if text else ""


WAYS = """<fieldset><legend>How</legend>
<label><input type="radio" name="way" value="card" checked> Card: paid at once</label>
<label><input type="radio" name="way" value="bank_debit"> Bank debit: the money comes later</label>
</fieldset>"""


def _row(description: str | None, quantity: int, amount: int, currency: str) -> str:
    each = shown_amount(amount // quantity, currency) if quantity > 1 else ""
    count = f"<small>{quantity:,} &times; {html.escape(each)}</small>" if each else ""
    return (
        f'<tr><th scope="row">{html.escape(description or "Item")}{count}</th>'
        f"<td>{html.escape(shown_amount(amount, currency))}</td></tr>"
    )


def _hint(card: cards.Card) -> str:
    spaced = re.sub(r"(.{4})(?=.)", r"\1 ", card.number)
    return f"<tr><th><code>{spaced}</code></th><td>{html.escape(card.hint)}</td></tr>"


def _challenge(intent: Json) -> Page:
    is_payment = intent["object"] == "payment_intent"
    content = template("challenge.html").substitute(
        total=html.escape(shown_amount(intent["amount"], intent["currency"])) if is_payment else "",
        intent=html.escape(intent["id"]),
    )
    return page("Authentication", content, single=True)


def _challenged(world: World, intent_id: str | None, form: Form) -> Json:
    intent = world.store.get(intent_id or "")
    if intent is None or form["challenge"] != intent_id or intent["status"] != "requires_action":
        raise Mistyped("This authentication is over. Pay again.")
    return intent


def _challenge_refusal(form: Form) -> str | None:
    return None if form.get("outcome") == "complete" else "authentication_required"


def typed_method(world: World, owed: Json, form: Form) -> Json:
    """The payment method that the form describes."""
    email = owed.get("customer_email") or form.get("email", "").strip() or None
    if not (owed["customer"] or email) or (email and "@" not in email):
        raise Mistyped("Enter your email.")
    if form.get("way") == "bank_debit" and checkout.DELAYED in owed.get("payment_method_types", ()):
        return payments.new_bank_debit(world, email=email)
    card = cards.card_with(form.get("number", ""))
    if card is None:
        raise Mistyped("Your card number is incorrect. Use one of the test cards below.")
    month, year = _expiry(form.get("expiry", ""))
    if (year, month) < _year_and_month(world.at):
        raise Mistyped("Your card has expired: its expiration date is in the past.")
    if not re.fullmatch(r"\d{3,4}", form.get("cvc", "").strip()):
        raise Mistyped("Your card's security code is incomplete.")
    method = payments.new_card(world, card, email=email)
    method["card"] |= {"exp_month": month, "exp_year": year}
    return method


def _year_and_month(at: int) -> tuple[int, int]:
    moment = time.gmtime(at)
    return moment.tm_year, moment.tm_mon


def _expiry(text: str) -> tuple[int, int]:
    found = EXPIRY.fullmatch(text)
    month, year = (int(found[1]), 2000 + int(found[2])) if found else (0, 0)
    if not 1 <= month <= 12:
        raise Mistyped("Your card's expiration date is incomplete.")
    return month, year


def invoice_page(world: World, invoice_id: str, form: Form | None) -> Page:
    """GET (no form) and POST of /i/{invoice}."""
    invoice = world.store.get(invoice_id)
    if invoice is None or invoice["object"] != "invoice" or invoice["status"] == "draft":
        return note("No such page", "This invoice does not exist.", status=404)
    if invoice["status"] not in {"open", "uncollectible"}:
        return note(f"Invoice {invoice['number']} is {invoice['status']}", "Nothing is owed.")
    if form is None:
        return _invoice_form(world, invoice, PREFILLED)
    return _invoice_sent(world, invoice, form)


def _invoice_sent(world: World, invoice: Json, form: Form) -> Page:
    intent = collection.intent_of(world, invoice)
    try:
        refusal = _invoice_attempt(world, invoice, intent, form)
    except Mistyped as mistake:
        return _invoice_form(world, invoice, form, alert=str(mistake), status=400)
    intent = collection.intent_of(world, invoice)
    if intent["status"] == "requires_action":
        return _challenge(intent)
    if refusal:
        return _invoice_form(world, invoice, form, alert=refusal.message, status=402)
    return Page(status=303, location=f"/i/{invoice['id']}")


def _invoice_attempt(world: World, invoice: Json, intent: Json, form: Form) -> Refusal | None:
    if "challenge" in form:
        intent = _challenged(world, intent["id"], form)
        refusal = payments.conclude(world, intent, refusal=_challenge_refusal(form))
        intents.follow(world, intent, refusal)
        return refusal
    if intent["status"] not in payments.WAITING:
        raise Mistyped("A payment of this invoice is under way.")
    method = world.save(typed_method(world, invoice, form))
    return collection.collect(world, invoice, method, off_session=False)


def _invoice_form(
    world: World, invoice: Json, form: Form, *, alert: str = "", status: int = 200
) -> Page:
    rows = [
        (line["description"], line["quantity"] or 1, line["amount"])
        for line in lines_of(world, invoice)
    ]
    if balance := invoice["starting_balance"]:
        rows.append(("Balance", 1, balance))
    content = _pay_form(
        heading=f"Invoice {invoice['number']}",
        rows=rows,
        total=invoice["amount_remaining"],
        currency=invoice["currency"],
        form=form,
        alert=alert,
        ask_email=False,
        debit=False,
        cancel="",
    )
    return page(f"Invoice {invoice['number']}", content, status=status)
