"""The page on which a customer has tokens bought by themselves, and sees why none were."""

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from playwright.sync_api import expect

from billing import auto_top_ups
from billing.models import AutoTopUp
from billing.stripe import outbox
from tests import builders
from tests.contract.scenes import fault
from tests.web.conftest import Company, Visitor, company, text_of
from tests.web.test_paying import keep


def page(of: Company) -> str:
    return f"/portal/{of.customer.reference}/auto-top-up/"


def typed(of: Company, act: str = "preview", **changed: Any) -> dict[str, Any]:
    fields = {"threshold": "1200", "pack": of.pack.pk, "ceiling": "1500", "act": act}
    return {**fields, "key": str(uuid.uuid4()), **changed}


def test_it_is_off_until_somebody_has_seen_the_preview_and_agrees(ours: Company, signed_in) -> None:
    client = signed_in(ours.buyer)
    assert "It needs a card first" in text_of(client.get(page(ours)))
    keep(ours)
    shown = text_of(client.post(page(ours), typed(ours)))
    assert "When fewer than 1,200 tokens are left, 500 tokens (500 tokens) is bought" in shown
    assert "Visa ending in 4242 is charged" in shown
    assert "In a calendar month (UTC) at most €1,500.00 are spent this way: 2 packs" in shown
    assert "Now 1,000 tokens are left: 1 pack for €600.00 would be bought at once" in shown
    assert not AutoTopUp.objects.exists()
    on = typed(ours, "on")
    for _ in range(2):
        shown = text_of(client.post(page(ours), on, follow=True))
    assert "On" in shown
    assert AutoTopUp.objects.get().turned_on_by == ours.buyer
    shown = text_of(client.post(page(ours), {"act": "off"}, follow=True))
    assert "nothing more is bought by itself" in shown
    assert auto_top_ups.current(customer=ours.customer) is None


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"threshold": ""}, "This field is required"),
        ({"threshold": "0"}, "Must be more than 0"),
        ({"threshold": "1e30"}, "Ensure"),
        ({"pack": "77777777"}, "Select a valid choice"),
        ({"ceiling": "599"}, "Must be at least €600.00"),
        ({"ceiling": "700.001"}, "at most 2 decimal places"),
        ({"ceiling": "many"}, "Enter a number"),
    ],
)
def test_what_is_mistyped_is_told_at_its_field(
    changed: dict[str, str], words: str, ours: Company, signed_in
) -> None:
    keep(ours)
    for act in ("preview", "on"):
        response = signed_in(ours.buyer).post(page(ours), typed(ours, act, **changed))
        assert response.status_code == 400
        assert words in response.content.decode()
    assert not AutoTopUp.objects.exists()


def test_a_form_without_its_key_shows_the_preview_again(ours: Company, signed_in) -> None:
    keep(ours)
    shown = signed_in(ours.buyer).post(page(ours), typed(ours, "on", key="x"))
    assert "Please look at the preview again" in text_of(shown)
    assert not AutoTopUp.objects.exists()


def test_strangers_and_those_who_may_not_buy_turn_nothing_on_or_off(
    ours: Company, theirs: Company, signed_in
) -> None:
    keep(theirs)
    for act in ("preview", "on", "off", "resume"):
        form = typed(theirs, act)
        assert signed_in(ours.buyer).post(page(theirs), form).status_code == 404
        viewer = builders.buyer(theirs.customer, role="viewer")
        assert signed_in(viewer).post(page(theirs), form).status_code == 403
    keep(ours, "1111")
    foreign = signed_in(ours.buyer).post(page(ours), typed(ours, "on", pack=theirs.pack.pk))
    assert foreign.status_code == 400
    assert not AutoTopUp.objects.exists()


@pytest.fixture
def live(live_server: Any) -> Company:
    return company("ours")


def test_a_person_turns_it_on_sees_it_buy_and_sees_why_it_stopped(
    visitor: Visitor, live: Company, at_stripe: str
) -> None:
    def act_now() -> None:
        auto_top_ups.evaluate(at=datetime.now(UTC))
        outbox.send_due(at=datetime.now(UTC))
        visitor.go(page(live))

    outbox.send_due(at=datetime.now(UTC))
    browser = visitor.page
    visitor.sign_in(live.buyer)
    visitor.go(page(live))
    browser.get_by_label("Buy when fewer").fill("1200")
    browser.get_by_label("At most in a calendar month").fill("1300")
    visitor.look("portal-auto-top-up-off")
    browser.get_by_role("button", name="See what it would do").click()
    visitor.look("portal-auto-top-up-preview")
    browser.get_by_role("button", name="Turn on").click()
    expect(browser.get_by_text("It is turned on.")).to_be_visible()
    act_now()
    expect(browser.get_by_text("Granted")).to_be_visible()
    fault(at_stripe, kind="decline", code="lost_card", path="^/v1/payment_intents$", times=1)
    builders.use(live.customer, 600, occurred_at=datetime.now(UTC))
    act_now()
    act_now()
    expect(browser.get_by_text("Paused", exact=True)).to_be_visible()
    visitor.look("portal-auto-top-up-paused")
    browser.get_by_role("button", name="Resume").click()
    expect(browser.get_by_text("It goes on", exact=False)).to_be_visible()
    act_now()
    builders.use(live.customer, 600, occurred_at=datetime.now(UTC))
    act_now()
    expect(browser.get_by_text("On, but nothing is bought")).to_be_visible()
    visitor.look("portal-auto-top-up-ceiling")
