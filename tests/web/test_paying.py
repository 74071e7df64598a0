"""The pages on which a customer looks after its cards."""

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from playwright.sync_api import expect

from billing import payment_methods
from billing.models import CardSetup, PaymentMethod, StripeCall
from billing.stripe import outbox
from billing.stripe.facts import MethodFacts
from tests import builders
from tests.web.conftest import Company, Visitor, text_of

WORDS = ("add", "choose", "remove", "stripe")


def keep(of: Company, last4: str = "4242", **facts: Any) -> PaymentMethod:
    shown = {"brand": "visa", "expires_year": 2034, "expires_month": 12, **facts}
    method = MethodFacts(
        stripe_id=f"pm_{last4}", customer_id="cus", kind="card", last4=last4, **shown
    )
    return payment_methods.keep(customer=of.customer, facts=method, at=datetime.now(UTC))


def page(of: Company) -> str:
    return f"/portal/{of.customer.reference}/payment/"


def test_the_page_tells_which_card_is_charged(ours: Company, signed_in) -> None:
    client = signed_in(ours.buyer)
    assert "No card is kept" in text_of(client.get(page(ours)))
    first = keep(ours, "1111", expires_year=2020)
    keep(ours, "2222")
    shown = text_of(client.get(page(ours)))
    assert "Visa ending in 2222 In use valid until 12/2034" in shown
    assert "Visa ending in 1111 expired 12/2020: please add another" in shown
    typed = {"method": str(first.pk)}
    chosen = client.post(f"{page(ours)}choose/", typed, follow=True)
    assert "Visa ending in 1111 In use" in text_of(chosen)
    removed = client.post(f"{page(ours)}remove/", typed, follow=True)
    assert "being removed" in text_of(removed)
    assert StripeCall.objects.filter(operation="card.detach", aggregate_id=first.pk).count() == 1


@pytest.mark.parametrize("method", ["", "x", str(uuid.UUID(int=1))])
def test_a_card_that_is_none_changes_nothing(method: str, ours: Company, signed_in) -> None:
    keep(ours)
    before = StripeCall.objects.count()
    for word in ("choose", "remove"):
        shown = signed_in(ours.buyer).post(f"{page(ours)}{word}/", {"method": method}, follow=True)
        assert "not kept any more" in text_of(shown)
    assert StripeCall.objects.count() == before


def test_strangers_and_those_who_may_not_buy_change_nothing(
    ours: Company, theirs: Company, signed_in
) -> None:
    method = keep(theirs)
    typed = {"method": str(method.pk), "key": str(uuid.uuid4())}
    before = StripeCall.objects.count()
    for word in WORDS:
        assert signed_in(ours.buyer).post(f"{page(theirs)}{word}/", typed).status_code == 404
        viewer = builders.buyer(theirs.customer, role="viewer")
        assert signed_in(viewer).post(f"{page(theirs)}{word}/", typed).status_code == 403
        # Their card by our own address is no card of ours.
        assert signed_in(ours.buyer).get(f"{page(ours)}{word}/").status_code == 405
    for word in ("choose", "remove"):
        own = signed_in(ours.buyer).post(f"{page(ours)}{word}/", typed, follow=True)
        assert "not kept any more" in text_of(own)
    setup = payment_methods.begin_setup(
        customer_id=theirs.customer.pk, idempotency_key=uuid.uuid4(), at=datetime.now(UTC)
    )
    assert signed_in(ours.buyer).get(f"/portal/card-setups/{setup.pk}/").status_code == 404
    taken = {"key": str(setup.pk)}
    shown = signed_in(ours.buyer).post(f"{page(ours)}add/", taken, follow=True)
    assert "Please begin again" in text_of(shown)
    assert StripeCall.objects.exclude(operation="setup.create").count() == before


def test_without_stripe_nothing_is_saved_and_the_page_says_so(
    ours: Company, signed_in, settings
) -> None:
    settings.STRIPE_API_BASE = "http://127.0.0.1:9"
    client = signed_in(ours.buyer)
    shown = client.post(f"{page(ours)}add/", {"key": str(uuid.uuid4())}, follow=True)
    assert "could not be opened. Nothing was saved" in text_of(shown)
    assert "could not be opened" in text_of(client.post(f"{page(ours)}stripe/", follow=True))
    setup = CardSetup.objects.get()
    back = client.get(f"/portal/card-setups/{setup.pk}/?cancelled=1", follow=True)
    assert "No card was saved" in text_of(back)


def test_a_person_gives_a_card_replaces_it_and_opens_its_page_at_stripe(
    visitor: Visitor, at_stripe: str
) -> None:
    customer = builders.customer(builders.shop(), stripe_payment_method_id="")
    at = f"/portal/{customer.reference}/payment/"
    browser = visitor.page
    visitor.sign_in(builders.buyer(customer))
    browser.get_by_role("link", name="Payment").click()
    visitor.look("portal-payment-empty")
    browser.get_by_role("button", name="Add a card").click()
    visitor.look("simulator-setup")
    browser.get_by_role("button", name="Save card").click()
    expect(browser.get_by_text("Visa ending in 4242 is kept")).to_be_visible()
    outbox.send_due(at=datetime.now(UTC))
    browser.get_by_role("button", name="Add another card").click()
    browser.get_by_label("Card number").fill("5555 5555 5555 4444")
    browser.get_by_role("button", name="Save card").click()
    expect(browser.get_by_text("Mastercard ending in 4444 is kept")).to_be_visible()
    visitor.look("portal-payment")
    browser.get_by_role("button", name="Remove Visa").click()
    expect(browser.get_by_text("being removed", exact=True)).to_be_visible()
    for _ in range(2):
        outbox.send_due(at=datetime.now(UTC))
    visitor.go(at)
    expect(browser.get_by_text("Visa ending in 4242")).to_have_count(0)
    browser.get_by_role("button", name="Open your page at Stripe").click()
    expect(browser.get_by_text("mastercard ending in 4444", exact=False).first).to_be_visible()
    visitor.look("simulator-portal")
    browser.get_by_role("link", name="Back to the shop").click()
    expect(browser.get_by_role("heading", name="Cards")).to_be_visible()
