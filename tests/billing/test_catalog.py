from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import IntegrityError, transaction
from djmoney.money import Money

from billing import catalog
from billing.errors import AlreadyPublished, InvalidInput, NotForSale
from billing.models import OverageTier, PlanVersion
from ledger.value import Tier
from tests import builders
from tests.builders import TOKEN

pytestmark = pytest.mark.django_db

BILL = PlanVersion.OveragePolicy.BILL
REST = Tier(up_to_microtokens=None, micros_per_token=1)
TO_9 = Tier(up_to_microtokens=9, micros_per_token=1)
FAULTY_TERMS = [
    ({"currency": "XYZ"}, "currency", "currency"),
    ({"currency": "AUD"}, "currency", "currency"),
    ({"platform_fee": Decimal("0.005")}, "platform_fee", "payable"),
    ({"platform_fee": Decimal(-1)}, "platform_fee", "range"),
    ({"allotment_price": Decimal(10**10)}, "allotment_price", "range"),
    ({"allotment_microtokens": 0}, "allotment_price", "grants"),
    ({"allotment_microtokens": -1}, "allotment_microtokens", "range"),
    ({"allotment_microtokens": 10**15 + 1}, "allotment_microtokens", "range"),
    ({"term_months": 2}, "term_months", "choice"),
    ({"rollover_basis_points": 10_001}, "rollover_basis_points", "range"),
    ({"grace": timedelta(days=32)}, "grace", "range"),
    ({"alert_thresholds": (90, 70)}, "alert_thresholds", "ascending"),
    ({"alert_thresholds": (70, 70)}, "alert_thresholds", "ascending"),
    ({"alert_thresholds": (0,)}, "alert_thresholds", "range"),
    ({"alert_thresholds": (101,)}, "alert_thresholds", "range"),
    ({"overage_tiers": (REST,)}, "overage_tiers", "policy"),
    ({"overage_cap_microtokens": 5}, "overage_cap_microtokens", "policy"),
    ({"overage_policy": BILL}, "overage_tiers", "required"),
    ({"overage_policy": BILL, "overage_tiers": (TO_9,)}, "overage_tiers", "last"),
    ({"overage_policy": BILL, "overage_tiers": (REST, REST)}, "overage_tiers", "last"),
    ({"overage_policy": BILL, "overage_tiers": (TO_9, TO_9, REST)}, "overage_tiers", "ascending"),
    (
        {"overage_policy": BILL, "overage_tiers": (REST,), "overage_cap_microtokens": 0},
        "overage_cap_microtokens",
        "range",
    ),
    (
        {
            "overage_policy": BILL,
            "overage_tiers": (Tier(up_to_microtokens=None, micros_per_token=-1),),
        },
        "overage_tiers",
        "price",
    ),
    ({"unit_id": 0}, "unit_id", "exists"),
    ({"rate_card_id": 0}, "rate_card_id", "exists"),
]


@pytest.mark.parametrize(("changed", "field", "rule"), FAULTY_TERMS)
def test_terms_that_break_a_rule_are_refused_at_their_field(changed, field, rule):
    shop = builders.shop()
    with pytest.raises(InvalidInput) as refusal:
        builders.plan_version(shop, published=False, **changed)
    assert (field, rule) in [(fault.field, fault.rule) for fault in refusal.value.faults]
    assert not PlanVersion.objects.exists()


def test_a_plan_may_not_price_by_another_vendors_unit_or_card():
    shop, other = builders.shop(), builders.shop()
    with pytest.raises(InvalidInput) as refusal:
        builders.plan_version(shop, unit_id=other.unit_id, rate_card_id=other.rate_card_id)
    assert [fault.field for fault in refusal.value.faults] == ["unit_id", "rate_card_id"]


def test_versions_of_a_plan_are_numbered_without_gaps():
    shop = builders.shop()
    plan = builders.plan(shop)
    numbers = [catalog.draft(plan_id=plan.pk, terms=builders.terms(shop)).number for _ in range(3)]
    assert numbers == [1, 2, 3]


def test_a_draft_changes_until_it_is_published_and_then_no_more():
    version = builders.plan_version(builders.shop(), published=False, **builders.billed())
    version.platform_fee = Money(1, "EUR")
    version.save()
    catalog.publish(version_id=version.pk, at=builders.OPENED)
    with pytest.raises(AlreadyPublished):
        catalog.publish(version_id=version.pk, at=builders.OPENED)

    version.refresh_from_db()
    version.platform_fee = Money(2, "EUR")
    with pytest.raises(IntegrityError, match="it is published"), transaction.atomic():
        version.save()
    with pytest.raises(IntegrityError, match="is published"), transaction.atomic():
        PlanVersion.objects.filter(pk=version.pk).delete()
    version.refresh_from_db()
    assert version.platform_fee == Money(1, "EUR")


def test_the_tiers_of_a_published_version_are_frozen_with_it():
    version = builders.plan_version(builders.shop(), **builders.billed())
    for change in (
        lambda: OverageTier.objects.filter(version=version).update(micros_per_token=1),
        lambda: OverageTier.objects.filter(version=version).delete(),
        lambda: OverageTier.objects.create(
            version=version, up_to_microtokens=7, micros_per_token=1
        ),
    ):
        with pytest.raises(IntegrityError, match="plan version is published"), transaction.atomic():
            change()
    assert catalog.tiers(version=version) == list(builders.TIERS)


def test_a_retired_version_is_not_for_sale_and_stays_what_it_was():
    shop = builders.shop()
    version = builders.plan_version(shop)
    customer = builders.customer(shop)
    catalog.retire(version_id=version.pk, at=builders.OCTOBER)
    catalog.retire(version_id=version.pk, at=builders.NOVEMBER)
    version.refresh_from_db()
    assert version.retired_at == builders.OCTOBER
    with pytest.raises(NotForSale, match="retired"):
        builders.subscription(customer, version)


def test_a_customer_cannot_buy_a_draft_or_another_vendors_or_another_currencys_plan():
    shop, other = builders.shop(), builders.shop()
    customer = builders.customer(shop)
    for version, reason in (
        (builders.plan_version(shop, published=False), "not published"),
        (builders.plan_version(other), "another vendor"),
        (builders.plan_version(shop, currency="USD"), "not sold in EUR"),
    ):
        with pytest.raises(NotForSale, match=reason):
            builders.subscription(customer, version)


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"price": Money(0, "EUR")}, "price"),
        ({"price": Money("0.001", "EUR")}, "price"),
        ({"price": Money(1, "AUD")}, "price"),
        ({"tokens": 0}, "microtokens"),
        ({"tokens": 10**9 + 1}, "microtokens"),
        ({"validity_months": 0}, "validity_months"),
    ],
)
def test_a_pack_that_breaks_a_rule_is_refused_at_its_field(changed, field):
    with pytest.raises(InvalidInput) as refusal:
        builders.pack(builders.shop(), **changed)
    assert [fault.field for fault in refusal.value.faults] == [field]


def test_a_published_pack_is_frozen():
    pack = builders.pack(builders.shop())
    pack.microtokens = TOKEN
    with pytest.raises(IntegrityError, match="it is published"), transaction.atomic():
        pack.save()
