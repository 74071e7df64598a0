"""Cards that are kept: the page that takes one, and the customer's own page at Stripe."""

from typing import Any

import pytest
import requests
import stripe

from tests.contract.scenes import SHOP, customer, open_invoice, submit


def setup(api: stripe.StripeClient, buyer: stripe.Customer, **more: Any) -> stripe.checkout.Session:
    params: Any = {
        "mode": "setup",
        "customer": buyer.id,
        "currency": "eur",
        "client_reference_id": "setup-7",
        "metadata": {"card_setup_id": "7"},
        "setup_intent_data": {"metadata": {"card_setup_id": "7"}},
        "success_url": f"{SHOP}?session_id={{CHECKOUT_SESSION_ID}}",
        "cancel_url": f"{SHOP}/cancelled",
        **more,
    }
    return api.v1.checkout.sessions.create(params)


def events(api: stripe.StripeClient) -> list[str]:
    return [str(event.type) for event in api.v1.events.list({"limit": 100}).data][::-1]


def kept(api: stripe.StripeClient, buyer: stripe.Customer) -> list[str]:
    found = api.v1.customers.payment_methods.list(buyer.id).data
    return [f"{method.card.brand} {method.card.last4}" for method in found if method.card]


def test_a_card_is_kept_without_a_payment(api: stripe.StripeClient) -> None:
    buyer = customer(api, card=None)
    made = setup(api, buyer)
    assert (made.status, made.amount_total) == ("open", None)
    assert "Nothing is charged now" in requests.get(made.url or "", timeout=10).text
    assert submit(made.url).headers["Location"] == f"{SHOP}?session_id={made.id}"
    done = api.v1.checkout.sessions.retrieve(made.id, {"expand": ["setup_intent.payment_method"]})
    assert (done.status, done.payment_status) == ("complete", "no_payment_required")
    assert isinstance(done.setup_intent, stripe.SetupIntent)
    assert isinstance(done.setup_intent.payment_method, stripe.PaymentMethod)
    assert done.setup_intent.payment_method.customer == buyer.id
    assert kept(api, buyer) == ["visa 4242"]
    assert api.v1.setup_intents.list({"customer": buyer.id}).data[0].status == "succeeded"
    assert events(api)[-3:] == [
        "payment_method.attached",
        "setup_intent.succeeded",
        "checkout.session.completed",
    ]
    assert api.v1.payment_intents.list().data == []


def test_a_bank_that_refuses_is_told_and_another_card_is_kept(api: stripe.StripeClient) -> None:
    buyer = customer(api, card=None)
    made = setup(api, buyer)
    refused = submit(made.url, "4000000000000002")
    assert (refused.status_code, kept(api, buyer)) == (402, [])
    assert "Your card was declined." in refused.text
    assert submit(made.url).status_code == 303
    assert kept(api, buyer) == ["visa 4242"]


@pytest.mark.parametrize(
    ("number", "off_session"), [("4000002500003155", "succeeded"), ("4000002760003184", None)]
)
def test_a_bank_asks_when_the_card_is_kept_and_some_ask_again(
    api: stripe.StripeClient, number: str, off_session: str | None
) -> None:
    buyer = customer(api, card=None)
    made = setup(api, buyer)
    assert "Complete authentication" in submit(made.url, number).text
    [intent] = api.v1.setup_intents.list({"customer": buyer.id}).data
    assert submit(made.url, challenge=intent.id, outcome="complete").status_code == 303
    [method] = api.v1.customers.payment_methods.list(buyer.id).data
    charge: Any = {
        "amount": 700, "currency": "eur", "customer": buyer.id, "payment_method": method.id,
        "confirm": True, "off_session": True,
    }  # fmt: skip
    if off_session is None:
        with pytest.raises(stripe.CardError, match="requires authentication"):
            api.v1.payment_intents.create(charge)
    else:
        assert api.v1.payment_intents.create(charge).status == off_session


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"line_items": [{"price": "price_1", "quantity": 1}]}, "line_items"),
        ({"automatic_tax": {"enabled": True}}, "automatic_tax"),
        ({"currency": None}, "currency"),
        ({"customer": None}, "customer"),
        ({"customer": "cus_none"}, "customer"),
    ],
)
def test_a_setup_that_stripe_would_refuse_is_refused(
    api: stripe.StripeClient, more: Any, param: str
) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        setup(api, customer(api, card=None), **more)
    assert refusal.value.param == param


def portal(api: stripe.StripeClient, buyer: stripe.Customer) -> str:
    return api.v1.billing_portal.sessions.create({"customer": buyer.id, "return_url": SHOP}).url


def test_a_customer_looks_after_its_cards_on_its_own_page(api: stripe.StripeClient) -> None:
    buyer = customer(api)
    invoice = open_invoice(api, buyer.id, 5000)
    url = portal(api, buyer)
    shown = requests.get(url, timeout=10).text
    assert str(invoice.number) in shown
    assert f'href="{SHOP}"' in shown
    assert submit(url, "5555555555554444", act="add").status_code == 303
    assert kept(api, buyer) == ["mastercard 4444", "visa 4242"]
    [second, first] = api.v1.customers.payment_methods.list(buyer.id).data

    def default() -> str | None:
        settings = api.v1.customers.retrieve(buyer.id).invoice_settings
        assert settings is not None
        return str(settings.default_payment_method)

    assert default() == second.id
    assert submit(url, act="default", method=first.id).status_code == 303
    assert default() == first.id
    assert submit(url, act="remove", method=second.id).status_code == 303
    assert kept(api, buyer) == ["visa 4242"]
    assert submit(url, act="remove", method=second.id).status_code == 400
    assert submit(url, act="other").status_code == 400


def test_a_customer_gives_its_address_and_tax_id(api: stripe.StripeClient) -> None:
    buyer = customer(api)
    url = portal(api, buyer)
    assert submit(url, act="details", country="nowhere").status_code == 400
    answer = submit(url, act="details", country="de", postal_code="10115", tax_id="DE123456789")
    assert answer.status_code == 303
    address = api.v1.customers.retrieve(buyer.id).address
    assert address is not None
    assert (address.country, address.postal_code) == ("DE", "10115")
    assert [one.value for one in api.v1.customers.tax_ids.list(buyer.id).data] == ["DE123456789"]
    assert events(api)[-2:] == ["customer.updated", "customer.tax_id.created"]


def test_a_page_of_nobody_is_not_there(api: stripe.StripeClient, address: str) -> None:
    assert requests.get(f"{address}/p/session/bps_none", timeout=10).status_code == 404
