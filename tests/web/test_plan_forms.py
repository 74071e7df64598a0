"""The form of a plan's version: drafted in words, faults at their rows, published, frozen."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.urls import reverse
from djmoney.money import Money

from billing import terms
from billing.models import (
    Plan,
    PlanVersion,
)
from ledger.value import Tier, Tiers
from tests import builders
from tests.builders import TOKEN
from tests.web.conftest import Company, text_of

JPY_TIERS = {"tiers-0-paid_in": "JPY", "tiers-1-paid_in": "JPY"}
PLAN_ADD = "admin:billing_planversion_add"


def version_form(plan: Plan, card_id: int, **changed: Any) -> dict[str, Any]:
    """What a pricing owner types: EUR 490 and 10,000.5 tokens, overage in two tiers."""
    typed: dict[str, Any] = {
        "plan": plan.pk,
        "rate_card_id": card_id,
        "term_months": 1,
        "allotment_microtokens": "10000.5",
        "rollover_percent": "12.5",
        "grace_hours": "36",
        "overage_policy": "bill",
        "overage_model": "graduated",
        "dunning_policy": "block",
        "overage_cap_microtokens": "",
        "alert_thresholds": "70, 90, 100",
        "prices-TOTAL_FORMS": 1,
        "prices-INITIAL_FORMS": 0,
        "prices-0-paid_in": "EUR",
        "prices-0-platform_fee": "490",
        "prices-0-allotment_price": "1200.00",
        "prices-0-commitment": "2000",
        "prices-0-seat_price": "0",
        "sizes-TOTAL_FORMS": 0,
        "sizes-INITIAL_FORMS": 0,
        "tiers-TOTAL_FORMS": 2,
        "tiers-INITIAL_FORMS": 0,
        "tiers-0-paid_in": "EUR",
        "tiers-0-up_to_microtokens": "1000",
        "tiers-0-micros_per_token": "0.15",
        "tiers-1-paid_in": "EUR",
        "tiers-1-up_to_microtokens": "",
        "tiers-1-micros_per_token": "0.1",
    }
    return typed | changed


@pytest.fixture
def plan(ours: Company) -> Plan:
    return builders.plan(ours.shop, code="growth")


@pytest.fixture
def pricing(ours: Company, signed_in):
    return signed_in(ours.pricing)


def test_a_plan_is_drafted_in_tokens_and_money(pricing, ours: Company, plan: Plan) -> None:
    pricing.post(reverse(PLAN_ADD), version_form(plan, ours.shop.rate_card_id))
    version = PlanVersion.objects.get(plan=plan)
    assert version.number == 1
    assert version.unit_id == ours.shop.unit_id
    assert version.allotment_microtokens == 10_000_500_000
    billed_by = terms.of_version(version=version, currency="EUR")
    assert billed_by.platform_fee == Money(490, "EUR")
    assert billed_by.allotment_price == Money(1200, "EUR")
    assert billed_by.commitment == Money(2000, "EUR")
    assert version.rollover_basis_points == 1_250
    assert version.grace == timedelta(hours=36)
    assert version.alert_thresholds == [70, 90, 100]
    assert billed_by.tiers == Tiers(
        steps=(
            Tier(up_to_microtokens=1_000 * TOKEN, micros_per_token=150_000),
            Tier(up_to_microtokens=None, micros_per_token=100_000),
        )
    )


def test_the_draft_is_shown_as_it_was_typed(pricing, ours: Company, plan: Plan) -> None:
    pricing.post(reverse(PLAN_ADD), version_form(plan, ours.shop.rate_card_id))
    version = PlanVersion.objects.get(plan=plan)
    page = pricing.get(reverse("admin:billing_planversion_change", args=[version.pk]))
    source = page.content.decode()
    for value in ("10000.5", "490", "1200", "12.5", "36", "0.15", "0.1"):
        assert f'value="{value}"' in source
    assert "€0.15 each" in text_of(page)


@pytest.mark.parametrize(
    ("field", "typed", "said"),
    [
        ("allotment_microtokens", "many", "Enter a number."),
        ("allotment_microtokens", "-1", "greater than or equal to 0"),
        ("allotment_microtokens", "0.0000001", "no more than 6 decimal places"),
        ("allotment_microtokens", "2000000000", "from 0 to a billion tokens"),
        ("rate_card_id", "999999", "not one of the available"),
        ("rollover_percent", "101", "less than or equal to 100"),
        ("alert_thresholds", "90, 70", "must ascend"),
        ("alert_thresholds", "0, 70", "from 1 to 1,000"),
        ("alert_thresholds", "half", "Write whole numbers"),
        ("overage_cap_microtokens", "0", "from 1 to a billion"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(
    field: str, typed: str, said: str, pricing, ours: Company, plan: Plan
) -> None:
    form = version_form(plan, ours.shop.rate_card_id, **{field: typed})
    response = pricing.post(reverse(PLAN_ADD), form)
    assert said in " ".join(response.context["adminform"].form.errors[field])
    assert not PlanVersion.objects.filter(plan=plan).exists()


@pytest.mark.parametrize(
    ("changed", "field", "said"),
    [
        ({"prices-0-commitment": "1690"}, "commitment", "come to that already"),
        ({"prices-0-platform_fee": "4.999"}, "platform_fee", "at most 2 decimal places"),
        ({"prices-0-platform_fee": ""}, "platform_fee", "required"),
        ({"prices-0-paid_in": "JPY", **JPY_TIERS}, "allotment_price", "whole amounts only"),
        ({"allotment_microtokens": "0"}, "allotment_price", "grants no tokens"),
    ],
)
def test_what_is_wrong_with_a_price_is_said_in_its_row(
    changed: dict[str, str], field: str, said: str, pricing, ours: Company, plan: Plan
) -> None:
    form = version_form(plan, ours.shop.rate_card_id)
    form["prices-0-allotment_price"] = "1200.50" if "prices-0-paid_in" in changed else "1200"
    response = pricing.post(reverse(PLAN_ADD), form | changed)
    [errors] = response.context["inline_admin_formsets"][0].formset.errors
    assert said in " ".join(errors[field])
    assert not PlanVersion.objects.filter(plan=plan).exists()


def test_a_plan_is_sold_in_several_currencies_each_with_its_tiers(
    pricing, ours: Company, plan: Plan
) -> None:
    second = {
        "prices-TOTAL_FORMS": 2,
        "prices-1-paid_in": "JPY",
        "prices-1-platform_fee": "80000",
        "prices-1-allotment_price": "200000",
        "prices-1-commitment": "0",
        "prices-1-seat_price": "0",
    }
    form = version_form(plan, ours.shop.rate_card_id, **second)
    response = pricing.post(reverse(PLAN_ADD), form)
    assert "In JPY, overage that is invoiced needs a price." in text_of(response)
    third_tier = {
        "tiers-TOTAL_FORMS": 3,
        "tiers-2-paid_in": "USD",
        "tiers-2-up_to_microtokens": "",
        "tiers-2-micros_per_token": "15",
    }
    response = pricing.post(reverse(PLAN_ADD), form | third_tier)
    assert "The plan has no price in this currency." in text_of(response)
    assert not PlanVersion.objects.filter(plan=plan).exists()
    response = pricing.post(reverse(PLAN_ADD), form | third_tier | {"tiers-2-paid_in": "JPY"})
    version = PlanVersion.objects.get(plan=plan)
    assert [price.currency for price in terms.prices(version=version)] == ["EUR", "JPY"]
    shown = pricing.get(reverse("admin:billing_planversion_change", args=[version.pk]))
    assert "¥80,000 a month" in text_of(shown)


def test_a_plan_in_sizes_is_typed_in_rows(pricing, ours: Company, plan: Plan) -> None:
    rows = {"sizes-TOTAL_FORMS": 2, "prices-0-commitment": "0", "prices-0-allotment_price": "0"}
    for number, (name, tokens, paid) in enumerate([("Small", 1_000, 100), ("Large", 9_000, 800)]):
        rows |= {
            f"sizes-{number}-paid_in": "EUR",
            f"sizes-{number}-name": name,
            f"sizes-{number}-code": name.lower(),
            f"sizes-{number}-allotment_microtokens": str(tokens),
            f"sizes-{number}-allotment_price": str(paid),
        }
    form = version_form(plan, ours.shop.rate_card_id, **rows)
    refused = pricing.post(reverse(PLAN_ADD), form)
    [errors] = refused.context["inline_admin_formsets"][0].formset.errors
    assert "the plan comes in sizes" in " ".join(errors["allotment_price"])
    form["allotment_microtokens"] = "0"
    twice = pricing.post(reverse(PLAN_ADD), form | {"sizes-1-code": "small"})
    errors = twice.context["inline_admin_formsets"][1].formset.errors
    assert errors[1]["code"] == ["It names two sizes."]
    assert not PlanVersion.objects.filter(plan=plan).exists()
    pricing.post(reverse(PLAN_ADD), form)
    [price] = terms.prices(version=PlanVersion.objects.get(plan=plan))
    assert [(size.code, size.allotment_price) for size in price.sizes] == [
        ("small", Decimal(100)),
        ("large", Decimal(800)),
    ]
    again = pricing.get(f"{reverse(PLAN_ADD)}?plan={plan.pk}").content.decode()
    assert 'name="sizes-TOTAL_FORMS" value="2"' in again


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"tiers-1-up_to_microtokens": "2000"}, "exactly one tier must take all the rest"),
        ({"tiers-TOTAL_FORMS": 0}, "overage that is invoiced needs a price"),
        ({"overage_policy": "block"}, "is only for overage that is invoiced"),
    ],
)
def test_prices_of_overage_that_do_not_fit_together_are_refused(
    changed: dict[str, Any], said: str, pricing, ours: Company, plan: Plan
) -> None:
    form = version_form(plan, ours.shop.rate_card_id, **changed)
    assert said in text_of(pricing.post(reverse(PLAN_ADD), form)).lower()
    assert not PlanVersion.objects.filter(plan=plan).exists()


def test_a_plan_explains_itself_while_it_is_typed(pricing, ours: Company, plan: Plan) -> None:
    form = version_form(plan, ours.shop.rate_card_id)
    said = text_of(pricing.post(reverse("admin:billing_planversion_explain"), form))
    assert "The platform costs €490.00 a month" in said
    assert "the first 1,000 tokens at €0.15 each, then €0.10 for each further token" in said
    assert not PlanVersion.objects.filter(plan=plan).exists()
    unfinished = pricing.post(
        reverse("admin:billing_planversion_explain"), form | {"prices-0-platform_fee": ""}
    )
    assert "Price 1: Platform fee: This field is required." in text_of(unfinished)


def test_publishing_asks_first_and_freezes(pricing, ours: Company) -> None:
    draft = ours.draft
    publish = f"/admin/billing/planversion/{draft.pk}/publish/"
    assert "Each month starts with 1,000 tokens" in text_of(pricing.get(publish))
    draft.refresh_from_db()
    assert draft.published_at is None
    assert "is published" in text_of(pricing.post(publish, follow=True))
    draft.refresh_from_db()
    assert draft.published_at is not None

    page = reverse("admin:billing_planversion_change", args=[draft.pk])
    shown = pricing.get(page)
    assert not shown.context["has_change_permission"]
    assert 'name="prices-0-platform_fee"' not in shown.content.decode()
    changed = version_form(draft.plan, ours.shop.rate_card_id)
    assert pricing.post(page, changed).status_code == 403
    draft.refresh_from_db()
    assert terms.prices(version=draft)[0].platform_fee == 500
    assert "published already" in text_of(pricing.post(publish, follow=True))
    assert "History" in text_of(shown)


def test_a_new_version_starts_from_the_one_before(pricing, ours: Company) -> None:
    version = builders.plan_version(ours.shop, **builders.billed(platform_fee=Decimal("321.50")))
    page = pricing.get(f"{reverse(PLAN_ADD)}?plan={version.plan_id}")
    source = page.content.decode()
    assert 'value="321.5"' in source
    assert 'value="0.02"' in source
    assert 'name="prices-TOTAL_FORMS" value="1"' in source
    assert 'name="tiers-TOTAL_FORMS" value="2"' in source
