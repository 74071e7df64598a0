"""The catalog's pages in a browser, with everything that a plan and a pack can have."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from djmoney.money import Money
from playwright.sync_api import expect

from billing.packs import PriceFrom, Season
from billing.terms import Price, Size
from tests import builders
from tests.builders import TOKEN
from tests.web.conftest import Company, Visitor

SIZES = (
    Size(
        code="small",
        name="Small",
        allotment_microtokens=1_000 * TOKEN,
        allotment_price=Decimal(1_000),
    ),
    Size(
        code="large",
        name="Large",
        allotment_microtokens=10_000 * TOKEN,
        allotment_price=Decimal(9_000),
    ),
)


def test_a_plan_with_everything_on_it_is_read_on_one_page(visitor: Visitor, ours: Company) -> None:
    version = builders.plan_version(
        ours.shop,
        published=False,
        prices=[
            Price(
                currency=currency,
                platform_fee=Decimal(500),
                seat_price=Decimal(30),
                commitment=Decimal(5_000),
                sizes=SIZES,
                overage_tiers=builders.TIERS,
            )
            for currency in ("EUR", "USD")
        ],
        term_months=24,
        allotment_microtokens=0,
        overage_policy="bill",
        overage_soft_cap_microtokens=500 * TOKEN,
        overage_cap_microtokens=900 * TOKEN,
        trial_days=14,
        trial_microtokens=50 * TOKEN,
        welcome_microtokens=100 * TOKEN,
        grant_on_payment=True,
    )
    page = visitor.page
    visitor.sign_in(ours.pricing)
    visitor.go(f"/admin/billing/planversion/{version.pk}/change/")
    beside = page.locator("aside")
    expect(beside).to_contain_text("Large 10,000 tokens for €9,000.00 (10")
    visitor.look("admin-plan-with-everything")


def test_packs_show_their_bonus_their_season_and_what_several_cost(
    visitor: Visitor, ours: Company
) -> None:
    today = datetime.now(UTC).date()
    builders.pack(
        ours.shop,
        tokens=2_000,
        bonus_microtokens=200 * TOKEN,
        prices=[
            PriceFrom(price=Money(2_000, "EUR")),
            PriceFrom(price=Money(1_800, "EUR"), from_quantity=3),
        ],
        season=Season(until_on=today + timedelta(days=3)),
    )
    page = visitor.page
    visitor.sign_in(ours.buyer)
    visitor.go(f"/portal/{ours.customer.reference}/buy/")
    expect(page.get_by_text("+ 200 tokens for free")).to_be_visible()
    expect(page.get_by_text("From 3 packs at once: €1,800.00 each")).to_be_visible()
    visitor.look("portal-packs")
