"""Checkout: a session made by the SDK, completed by the form of its page."""

import time
from typing import Any

import pytest
import requests
import stripe

from tests.contract.scenes import SHOP, advance, customer, fault, session, submit


def events(api: stripe.StripeClient) -> list[str]:
    return [str(event.type) for event in api.v1.events.list({"limit": 100}).data][::-1]


def expanded(api: stripe.StripeClient, made: stripe.checkout.Session) -> stripe.checkout.Session:
    return api.v1.checkout.sessions.retrieve(
        made.id, {"expand": ["payment_intent.latest_charge", "line_items"]}
    )


def test_the_page_shows_what_is_bought_and_a_card_pays_for_it(api: stripe.StripeClient) -> None:
    made = session(api)
    assert (made.status, made.payment_status, made.amount_total) == ("open", "unpaid", 2198)
    page = requests.get(made.url or "", timeout=10)
    assert page.status_code == 200
    assert "Pack &lt;of&gt; 1,000 tokens" in page.text
    assert "21.98 EUR" in page.text
    assert f'href="{SHOP}/cancelled"' in page.text
    paid = submit(made.url)
    assert (paid.status_code, paid.headers["Location"]) == (303, f"{SHOP}?session_id={made.id}")
    done = expanded(api, made)
    assert (done.status, done.payment_status, done.url) == ("complete", "paid", None)
    assert done.client_reference_id == "order-7"
    assert done.customer_details is not None
    assert done.customer_details.email == "buyer@example.com"
    intent = done.payment_intent
    assert isinstance(intent, stripe.PaymentIntent)
    assert (intent.status, intent.amount_received) == ("succeeded", 2198)
    assert intent.metadata["order_id"] == "7"
    assert isinstance(intent.latest_charge, stripe.Charge)
    assert intent.latest_charge.paid
    assert done.line_items is not None
    assert [item.quantity for item in done.line_items.data] == [2]
    assert events(api)[-3:] == [
        "charge.succeeded",
        "payment_intent.succeeded",
        "checkout.session.completed",
    ]


@pytest.mark.parametrize(
    ("number", "alert"),
    [
        ("4000 0000 0000 0002", "Your card was declined."),
        ("4000000000009995", "Your card has insufficient funds."),
        ("4000000000000069", "Your card has expired."),
    ],
)
def test_a_declined_card_is_told_and_another_one_pays(
    api: stripe.StripeClient, number: str, alert: str
) -> None:
    made = session(api)
    declined = submit(made.url, number)
    assert declined.status_code == 402
    assert f'role="alert">{alert}' in declined.text
    still = expanded(api, made)
    assert (still.status, still.payment_status) == ("open", "unpaid")
    assert submit(made.url).status_code == 303
    done = expanded(api, made)
    assert isinstance(done.payment_intent, stripe.PaymentIntent)
    charges = api.v1.charges.list({"payment_intent": done.payment_intent.id}).data
    assert [charge.status for charge in charges] == ["succeeded", "failed"]


@pytest.mark.parametrize(
    ("form", "alert"),
    [
        ({"number": "1234"}, "card number is incorrect"),
        ({"number": "<script>"}, "card number is incorrect"),
        ({"expiry": "13/34"}, "expiration date"),
        ({"expiry": "soon"}, "expiration date"),
        ({"expiry": "01/20"}, "has expired"),
        ({"cvc": "1"}, "security code"),
        ({"email": ""}, "Enter your email"),
        ({"email": "nobody"}, "Enter your email"),
    ],
)
def test_a_mistyped_form_is_told_and_charges_nothing(
    api: stripe.StripeClient, form: dict[str, str], alert: str
) -> None:
    made = session(api)
    answer = submit(made.url, **form)
    assert answer.status_code == 400
    assert alert in answer.text.split('role="alert"')[1].split("</p>")[0]
    assert "<script>" not in answer.text
    assert api.v1.payment_intents.list().data == []


def test_paying_twice_charges_once(api: stripe.StripeClient) -> None:
    made = session(api)
    assert submit(made.url).headers["Location"] == submit(made.url).headers["Location"]
    assert len(api.v1.charges.list().data) == 1
    assert "has been paid" in requests.get(made.url or "", timeout=10).text


@pytest.mark.parametrize(("outcome", "status"), [("complete", 303), ("fail", 402)])
def test_authentication_is_asked_for(api: stripe.StripeClient, outcome: str, status: int) -> None:
    made = session(api)
    asked = submit(made.url, "4000002500003155")
    assert "Complete authentication" in asked.text
    intent = expanded(api, made).payment_intent
    assert isinstance(intent, stripe.PaymentIntent)
    assert intent.status == "requires_action"
    answer = submit(made.url, challenge=intent.id, outcome=outcome)
    assert answer.status_code == status
    assert expanded(api, made).payment_status == ("paid" if outcome == "complete" else "unpaid")


@pytest.mark.parametrize(
    ("outcome", "event", "paid"),
    [
        ("succeeded", "checkout.session.async_payment_succeeded", "paid"),
        ("failed", "checkout.session.async_payment_failed", "unpaid"),
    ],
)
def test_a_bank_debit_completes_unpaid_and_is_answered_later(
    api: stripe.StripeClient, address: str, outcome: str, event: str, paid: str
) -> None:
    made = session(api)
    assert submit(made.url, way="bank_debit").status_code == 303
    waiting = expanded(api, made)
    assert (waiting.status, waiting.payment_status) == ("complete", "unpaid")
    assert events(api)[-1] == "checkout.session.completed"
    late = {"checkout_session": made.id, "outcome": outcome}
    assert requests.post(f"{address}/_sim/async", json=late, timeout=10).ok
    assert events(api)[-1] == event
    assert expanded(api, made).payment_status == paid
    assert requests.post(f"{address}/_sim/async", json=late, timeout=10).status_code == 400


def test_a_session_expires_by_time_or_by_request(api: stripe.StripeClient, address: str) -> None:
    by_request = session(api)
    assert api.v1.checkout.sessions.expire(by_request.id).status == "expired"
    by_time = session(api, expires_at=int(time.time()) + 1_900)
    advance(address, 2_000)
    assert api.v1.checkout.sessions.retrieve(by_time.id).status == "expired"
    assert events(api).count("checkout.session.expired") == 2
    assert requests.get(by_time.url or "", timeout=10).status_code == 410
    assert submit(by_request.url).status_code == 410
    with pytest.raises(stripe.InvalidRequestError):
        api.v1.checkout.sessions.expire(by_time.id)
    assert api.v1.charges.list().data == []


def test_a_card_is_kept_for_the_customer_when_asked(api: stripe.StripeClient) -> None:
    buyer = customer(api, card=None)
    made = session(
        api, customer=buyer.id, payment_intent_data={"setup_future_usage": "off_session"}
    )
    page = requests.get(made.url or "", timeout=10).text
    assert 'name="email"' not in page
    submit(made.url, email="")
    [kept] = api.v1.customers.payment_methods.list(buyer.id).data
    assert kept.card is not None
    assert kept.card.last4 == "4242"
    assert expanded(api, made).customer == buyer.id


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"line_items": []}, "line_items"),
        ({"success_url": "javascript:alert(1)"}, "success_url"),
        ({"cancel_url": "/relative"}, "cancel_url"),
        ({"expires_at": 1}, "expires_at"),
        ({"customer": "cus_none"}, "customer"),
        ({"mode": "subscription"}, "mode"),
        ({"currency": "usd"}, "line_items"),
        ({"adaptive_pricing": {"enabled": True}}, "adaptive_pricing[enabled]"),
        ({"customer_update": {"address": "auto"}}, "customer_update"),
    ],
)
def test_a_session_that_cannot_be_is_refused(
    api: stripe.StripeClient, more: dict[str, Any], param: str
) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        session(api, **more)
    assert refused.value.param == param


def test_too_little_to_charge_is_refused(api: stripe.StripeClient) -> None:
    data = {"currency": "eur", "unit_amount": 49, "product_data": {"name": "P"}}
    with pytest.raises(stripe.InvalidRequestError) as refused:
        session(api, line_items=[{"quantity": 1, "price_data": data}])
    assert refused.value.code == "amount_too_small"
    assert api.v1.products.list().data == [], "a refused request leaves nothing behind"


def test_a_page_of_no_session_is_not_found(address: str) -> None:
    assert requests.get(f"{address}/c/pay/cs_test_none", timeout=10).status_code == 404
    assert submit(f"{address}/c/pay/cs_test_none").status_code == 404


def test_a_customer_deleted_meanwhile_is_told_and_charges_nothing(
    api: stripe.StripeClient,
) -> None:
    buyer = customer(api, card=None)
    keep: Any = {"payment_intent_data": {"setup_future_usage": "off_session"}}
    made = session(api, customer=buyer.id, **keep)
    api.v1.customers.delete(buyer.id)
    refused = submit(made.url)
    assert (refused.status_code, "cannot be paid" in refused.text) == (400, True)
    assert api.v1.charges.list().data == []


def test_a_decline_can_be_asked_for(api: stripe.StripeClient, address: str) -> None:
    fault(address, kind="decline", code="insufficient_funds")
    made = session(api)
    assert "insufficient funds" in submit(made.url).text
    assert submit(made.url).status_code == 303


def test_payment_intents_are_confirmed_and_canceled(api: stripe.StripeClient) -> None:
    paid = api.v1.payment_intents.create(
        {"amount": 500, "currency": "eur", "payment_method": "pm_card_visa", "confirm": True}
    )
    assert paid.status == "succeeded"
    waiting = api.v1.payment_intents.create({"amount": 500, "currency": "eur"})
    with pytest.raises(stripe.CardError) as refused:
        api.v1.payment_intents.confirm(waiting.id, {"payment_method": "pm_card_chargeDeclined"})
    assert refused.value.error is not None
    assert refused.value.error.payment_intent is not None
    assert refused.value.error.payment_intent.id == waiting.id
    assert api.v1.payment_intents.cancel(waiting.id).status == "canceled"
    with pytest.raises(stripe.InvalidRequestError):
        api.v1.payment_intents.confirm(paid.id)
