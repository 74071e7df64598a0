"""The sales sheet of a plan, and what is odd about a plan before it is published."""

from decimal import Decimal
from typing import Any

import pytest
from django.urls import reverse
from djmoney.money import Money
from playwright.sync_api import expect

from billing.models import PlanVersion
from billing.terms import Price, Size
from ledger.value import Tier
from tests import builders
from tests.builders import TOKEN
from tests.web.conftest import Company, Visitor, company, text_of


@pytest.fixture
def pricing(ours: Company, signed_in):
    return signed_in(ours.pricing)


def page_of(version: PlanVersion, name: str) -> str:
    return reverse(f"admin:billing_planversion_{name}", args=[version.pk])


def sheet_of(visitor: Any, version: PlanVersion, **asked: str) -> str:
    page = visitor.get(page_of(version, "sales_sheet"), asked)
    assert page.status_code == 200
    said: str = text_of(page).replace("\N{NO-BREAK SPACE}", " ")
    return said


def test_the_sheet_tells_and_reckons_with_the_plans_own_numbers(pricing, ours: Company) -> None:
    said = sheet_of(pricing, builders.plan_version(ours.shop, **builders.billed()))
    for told in (
        "Each month starts with 1,000 tokens for €1,000.00",
        "Light 600 tokens, 60 % of the allotment",
        "€2.50 for each token used. 200 tokens roll over. 200 tokens expire.",
        "Heavy 1,400 tokens, 140 % of the allotment",
        "Together €1,503.00",
        "That is 33 hours, worth €1,333.33; the plan costs €1,500.00.",
        "Each month returns €166.67 less than it costs",
        "Plan for €1,500.00 a month and keep €3.00 in reserve for a heavy one.",
        "Up to 20 % of the allotment stay yours for one more month.",
    ):
        assert told in said


def test_it_reckons_with_the_buyers_own_figures(pricing, ours: Company) -> None:
    version = builders.plan_version(ours.shop)
    said = sheet_of(pricing, version, minutes_saved="6", hourly_cost="50")
    assert "saves 6 minutes of a person who costs €50.00 an hour" in said
    assert "Each month returns €3,500.00 more than it costs: 233 %." in said
    said = sheet_of(pricing, version, minutes_saved="many")
    assert "Enter a number." in said
    assert "saves 2 minutes" in said


def test_it_is_of_the_currency_and_the_size_that_are_chosen(pricing, ours: Company) -> None:
    def sizes(*prices: int) -> list[Size]:
        return [
            Size(
                code=code,
                name=code.title(),
                allotment_microtokens=count * TOKEN,
                allotment_price=Decimal(price),
            )
            for code, count, price in zip(("small", "large"), (100, 300), prices, strict=True)
        ]

    version = builders.plan_version(
        ours.shop,
        allotment_microtokens=0,
        prices=[
            Price(currency="EUR", sizes=sizes(100, 250)),
            Price(currency="JPY", sizes=sizes(16_000, 40_000)),
        ],
    )
    said = sheet_of(pricing, version, currency="JPY", size="large")
    assert "Each month starts with 300 tokens for ¥40,000" in said
    assert "of the size you choose" in sheet_of(pricing, version)
    assert "of the size you choose" in sheet_of(pricing, version, currency="XXX", size="none")


def test_a_hard_cap_says_what_is_paid_at_most(pricing, ours: Company) -> None:
    terms = builders.billed(overage_cap_microtokens=1_250 * TOKEN)
    said = sheet_of(pricing, builders.plan_version(ours.shop, **terms))
    assert "You pay at least €1,500.00 a month, and at most €1,520.00" in said
    falling = (
        Tier(up_to_microtokens=1_000 * TOKEN, micros_per_token=100_000),
        Tier(up_to_microtokens=None, micros_per_token=10_000),
    )
    terms |= {"overage_model": "volume", "overage_tiers": falling}
    said = sheet_of(pricing, builders.plan_version(ours.shop, **terms))
    assert "and at most €1,600.00" in said


def test_who_sells_sees_it_and_another_vendor_does_not(signed_in, ours: Company) -> None:
    version = builders.plan_version(ours.shop)
    assert sheet_of(signed_in(builders.employee(ours.shop, role="account_manager")), version)
    stranger = signed_in(company("theirs").pricing)
    for name in ("sales_sheet", "publish"):
        assert stranger.get(page_of(version, name)).status_code in (302, 403, 404)
    assert not stranger.get(page_of(version, "sales_sheet")).content.count(b"rl-sheet")


def test_what_is_odd_is_confirmed_before_it_is_published(pricing, ours: Company) -> None:
    version = builders.plan_version(ours.shop, published=False, alert_thresholds=())
    page = pricing.get(page_of(version, "publish"))
    assert "Nobody is told before the tokens run out" in text_of(page)
    assert 'name="confirmed" value="no_alerts"' in page.content.decode()
    pricing.post(page_of(version, "publish"))
    version.refresh_from_db()
    assert version.published_at is None
    pricing.post(page_of(version, "publish"), {"confirmed": ["no_alerts"]})
    version.refresh_from_db()
    assert version.published_at is not None


def test_an_error_leaves_no_button_and_leads_to_its_field(pricing, ours: Company) -> None:
    version = builders.plan_version(ours.shop, published=False, allotment_microtokens=1)
    page = pricing.get(page_of(version, "publish"))
    assert "The smallest run costs 1 token, more than the allotment" in text_of(page)
    assert f"{page_of(version, 'change')}#id_allotment_microtokens" in page.content.decode()
    assert 'type="submit" class="rl-button' not in page.content.decode()
    pricing.post(page_of(version, "publish"))
    version.refresh_from_db()
    assert version.published_at is None
    assert "The smallest run costs" in text_of(pricing.get(page_of(version, "change")))


def test_a_published_plan_is_not_asked_about_again(pricing, ours: Company) -> None:
    version = builders.plan_version(ours.shop, alert_thresholds=())
    assert version.plan.vendor == ours.shop.vendor
    assert "Before it is published" not in text_of(pricing.get(page_of(version, "change")))


def test_the_price_of_a_pack_is_seen_beside_the_plan(pricing, ours: Company) -> None:
    builders.pack(ours.shop, tokens=500, price=Money(450, "EUR"))
    version = builders.plan_version(ours.shop, published=False, **builders.billed())
    said = text_of(pricing.get(page_of(version, "publish")))
    assert "A token in the pack “500 tokens” costs €0.90, one of overage €0.02" in said


def test_the_sheet_is_reckoned_anew_and_printed_whole(visitor: Visitor, live_server: Any) -> None:
    sold = company("ours")
    terms = builders.billed(overage_model="volume", overage_cap_microtokens=9_000 * TOKEN)
    version = builders.plan_version(sold.shop, commitment=Decimal(1_600), **terms)
    page = visitor.page
    visitor.sign_in(sold.account_manager)
    visitor.go(page_of(version, "change"))
    page.get_by_role("link", name="Sales sheet").click()
    page.get_by_label("Minutes that a token's work saves").fill("5")
    page.get_by_role("button", name="Reckon with these").click()
    expect(page.get_by_text("saves 5 minutes")).to_be_visible()
    visitor.look("admin-plan-sheet")
    pdf = page.pdf(format="A4", path=visitor.pictures / "sheet.pdf")
    assert 1 <= pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") <= 3
    page.emulate_media(media="print")
    expect(page.get_by_role("button", name="Print, or save as PDF")).to_be_hidden()
    expect(page.get_by_text("A forecast in your portal")).to_be_visible()
