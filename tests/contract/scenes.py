"""Scenes that tests of the simulator begin with."""

from typing import Any

import requests
import stripe

SHOP = "http://127.0.0.1:9/orders/7"


def customer(api: stripe.StripeClient, *, card: str | None = "pm_card_visa") -> stripe.Customer:
    """A customer, with a card that invoices are collected with unless told otherwise."""
    created = api.v1.customers.create({"email": "buyer@example.com", "name": "Ada"})
    if card:
        method = api.v1.payment_methods.attach(card, {"customer": created.id})
        api.v1.customers.update(
            created.id, {"invoice_settings": {"default_payment_method": method.id}}
        )
    return created


def product(api: stripe.StripeClient, product_id: str = "plan_team_r1_fee") -> stripe.Product:
    return api.v1.products.create({"id": product_id, "name": "Platform fee"})


def line(amount: int, *, currency: str = "eur", name: str = "1", **more: Any) -> Any:
    return {
        "description": f"Line {name}",
        "metadata": {"line_id": name},
        "period": {"start": 1_760_000_000, "end": 1_762_000_000},
        "quantity": 1,
        "discountable": False,
        "price_data": {
            "currency": currency,
            "product": "plan_team_r1_fee",
            "unit_amount": amount,
            "tax_behavior": "exclusive",
        },
        **more,
    }


def draft(api: stripe.StripeClient, customer_id: str, *amounts: int, **more: Any) -> stripe.Invoice:
    """A draft with a line for each amount."""
    params: Any = {
        "customer": customer_id,
        "currency": "eur",
        "collection_method": "charge_automatically",
        "auto_advance": False,
        "pending_invoice_items_behavior": "exclude",
        "automatic_tax": {"enabled": False},
        "metadata": {"invoice_id": "7"},
        **more,
    }
    invoice = api.v1.invoices.create(params)
    if not amounts:
        return invoice
    lines = [line(amount, name=str(index)) for index, amount in enumerate(amounts)]
    return api.v1.invoices.add_lines(invoice.id, {"lines": lines})


def open_invoice(
    api: stripe.StripeClient, customer_id: str, *amounts: int, **more: Any
) -> stripe.Invoice:
    product(api)
    return api.v1.invoices.finalize_invoice(
        draft(api, customer_id, *amounts, **more).id, {"auto_advance": True}
    )


def session(api: stripe.StripeClient, **more: Any) -> stripe.checkout.Session:
    """A purchase of two packs at 10.99 EUR."""
    params: Any = {
        "mode": "payment",
        "client_reference_id": "order-7",
        "metadata": {"order_id": "7"},
        "payment_intent_data": {"metadata": {"order_id": "7"}},
        "line_items": [
            {
                "quantity": 2,
                "price_data": {
                    "currency": "eur",
                    "unit_amount": 1099,
                    "product_data": {"name": "Pack <of> 1,000 tokens"},
                },
            }
        ],
        "success_url": f"{SHOP}?session_id={{CHECKOUT_SESSION_ID}}",
        "cancel_url": f"{SHOP}/cancelled",
        **more,
    }
    return api.v1.checkout.sessions.create(params)


def submit(url: str | None, number: str = "4242424242424242", **more: str) -> requests.Response:
    """Send the form of a hosted page, as a browser would."""
    assert url
    form = {"number": number, "expiry": "12/34", "cvc": "123", "email": "buyer@example.com"}
    return requests.post(url, form | more, allow_redirects=False, timeout=10)


def fault(address: str, **fault: Any) -> None:
    requests.post(f"{address}/_sim/faults", json=fault, timeout=10).raise_for_status()


def advance(address: str, seconds: int) -> None:
    answer = requests.post(f"{address}/_sim/clock", json={"advance": seconds}, timeout=10)
    answer.raise_for_status()


def logged(address: str, path: str = "", method: str = "POST") -> list[dict[str, Any]]:
    query = {"path": path, "method": method}
    answer = requests.get(f"{address}/_sim/requests", query, timeout=10).json()
    return list(answer["requests"])
