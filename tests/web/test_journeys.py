"""People at a real browser: a plan is built, tokens are bought, an alert is acknowledged."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from billing import alerts
from billing.models import AlertMessage, PlanVersion, StripeEvent, TopUp
from billing.stripe import inbox
from ledger import queries
from tests import builders
from tests.builders import TOKEN
from tests.web.conftest import Company, Visitor, company

EVENT_PATIENCE_SECONDS = 15


@pytest.fixture
def ours(live_server: Any) -> Company:
    return company("ours")


def wait_until(holds: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + EVENT_PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < until, f"waited in vain for {what}"
        time.sleep(0.05)


def type_terms(page: Page) -> None:
    """EUR 490 and 10,000 tokens for EUR 1,200 a month, overage at EUR 0.15."""
    page.get_by_label("Rate card").select_option(label="Standard (in Work)")
    page.get_by_label("Allotment", exact=False).first.fill("10000")
    page.locator("input[name='prices-0-platform_fee']").fill("490")
    page.locator("input[name='prices-0-allotment_price']").fill("1200")
    page.get_by_label("Overage policy").select_option(label="invoice it")
    page.get_by_text("Add another Overage price").click()
    page.locator("input[name='tiers-0-micros_per_token']").fill("0.15")


def test_a_pricing_owner_builds_and_publishes_a_plan(visitor: Visitor, ours: Company) -> None:
    page = visitor.page
    visitor.sign_in(ours.pricing)
    expect(page.get_by_role("heading", name="From nothing to the first invoice")).to_be_visible()
    visitor.look("admin-home")

    page.locator("a[href$='/admin/billing/plan/']:visible").first.click()
    page.locator("a[href$='/admin/billing/plan/add/']").first.click()
    page.get_by_label("Name").fill("Growth")
    page.get_by_label("Code").fill("growth")
    page.get_by_role("button", name="Save", exact=True).click()
    page.locator("#result_list").get_by_role("link", name="Growth", exact=True).click()
    page.get_by_role("link", name="Draft a new version").click()

    type_terms(page)
    beside = page.locator("aside .rl-panel").first
    expect(beside).to_contain_text("Each month starts with 10,000 tokens for €1,200.00")
    expect(beside).to_contain_text("€0.15 a token")
    visitor.look("admin-plan-draft")
    assert not PlanVersion.objects.filter(plan__code="growth").exists()

    page.get_by_role("button", name="Save and continue editing").click()
    page.get_by_role("link", name="Publish …").click()
    page.get_by_label("I have read what is odd about it").check()
    visitor.look("admin-plan-publish")
    page.get_by_role("button", name="Publish", exact=True).click()
    expect(page.get_by_text("Growth v1 is published.")).to_be_visible()
    expect(page.get_by_role("button", name="Save", exact=True)).to_have_count(0)
    visitor.look("admin-plan-published")
    version = PlanVersion.objects.get(plan__code="growth")
    assert version.published_at is not None
    assert version.allotment_microtokens == 10_000 * TOKEN


def test_a_customer_buys_tokens_and_they_arrive_once(
    visitor: Visitor, ours: Company, at_stripe: str
) -> None:
    page = visitor.page
    visitor.go("/")
    visitor.look("sign-in")
    visitor.sign_in(ours.buyer)
    expect(page.get_by_text("1,000 tokens", exact=False).first).to_be_visible()
    visitor.look("portal-overview")

    page.get_by_role("link", name="Buy tokens").first.click()
    visitor.look("portal-buy")
    page.get_by_role("button", name="Buy 500 tokens").click()
    page.get_by_role("button", name="Pay").click()
    expect(page.get_by_role("heading", name="on their way")).to_be_visible()
    visitor.look("portal-top-up-on-its-way")
    [bought] = TopUp.objects.all()
    assert not hasattr(bought, "fulfilment")

    wait_until(
        lambda: StripeEvent.objects.filter(type="checkout.session.completed").exists(),
        "the webhook",
    )
    for _ in range(2):
        inbox.act_on_due(at=datetime.now(UTC))
    expect(page.get_by_role("heading", name="Your tokens have arrived")).to_be_visible()
    visitor.look("portal-top-up-arrived")
    page.get_by_role("link", name="Back to the overview").click()
    expect(page.get_by_text("1,500 tokens")).to_be_visible()

    lots = queries.lots(account_ids=[ours.customer.account_id])
    [lot] = [lot for lot in lots if lot.source == "top_up"]
    assert lot.granted_microtokens == 500 * TOKEN


def test_a_buyer_who_turns_back_pays_nothing_and_may_go_on(
    visitor: Visitor, ours: Company, at_stripe: str
) -> None:
    page = visitor.page
    visitor.sign_in(ours.buyer)
    page.get_by_role("link", name="Buy tokens").first.click()
    page.get_by_role("button", name="Buy 500 tokens").click()
    payment_page = page.url
    assert payment_page.startswith(at_stripe)
    bought = TopUp.objects.get()
    visitor.go(f"/portal/top-ups/{bought.pk}/?cancelled=1")
    expect(page.get_by_role("heading", name="Not paid yet")).to_be_visible()
    visitor.look("portal-top-up-not-paid")
    visitor.go(f"/portal/{ours.customer.reference}/")
    expect(page.get_by_text("500 tokens are not paid yet.")).to_be_visible()
    page.get_by_role("link", name="See how it stands").click()
    page.get_by_role("link", name="Go on to the payment page").click()
    assert page.url == payment_page


def test_an_account_manager_acknowledges_an_alert(visitor: Visitor, ours: Company) -> None:
    page = visitor.page
    now = datetime.now(UTC)
    builders.use(ours.customer, 1_040, occurred_at=now, at=now)
    assert alerts.evaluate(at=now) == 1
    visitor.sign_in(ours.account_manager)
    expect(page.get_by_text("100 % of the allotment of")).to_be_visible()
    visitor.look("desk")
    page.get_by_role("link", name="Ours-Customer").click()
    visitor.look("desk-account")
    page.get_by_role("button", name="Acknowledge").click()
    expect(page.get_by_text("The alert of Ours-Customer is acknowledged.")).to_be_visible()
    expect(page.get_by_role("button", name="Acknowledge")).to_have_count(0)
    visitor.look("desk-account-acknowledged")
    message = AlertMessage.objects.get()
    assert message.acknowledged_by == ours.account_manager
    assert message.acknowledged_at is not None


def test_the_first_page_is_light_and_can_be_used_by_keyboard(
    visitor: Visitor, ours: Company
) -> None:
    page = visitor.page
    sizes: list[int] = []
    page.on("response", lambda response: sizes.append(len(response.body())))
    visitor.go("/sign-in/")
    page.wait_for_load_state("networkidle")
    assert 0 < sum(sizes) < 200_000
    page.keyboard.type(ours.buyer.username)
    page.keyboard.press("Tab")
    page.keyboard.type("secret")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Ours-Customer")).to_be_visible()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
