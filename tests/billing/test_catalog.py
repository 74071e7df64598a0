import threading
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import IntegrityError, connections, transaction
from djmoney.money import Money

from billing import catalog, closing, pricing
from billing.errors import AlreadyPublished, InvalidInput, NotForSale
from billing.models import InvoiceLine, OverageTier, PlanVersion
from ledger.units import LOT_PRICE_MICROS_MAX
from ledger.value import Tier
from tests import builders
from tests.builders import DAY, NOVEMBER, OCTOBER, TOKEN

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


@pytest.mark.parametrize(("euros", "fits"), [(1_000, True), (1_001, False)])
def test_a_hard_cap_times_the_price_must_fit_an_invoice(euros, fits):
    shop = builders.shop()
    dear = builders.billed(
        overage_tiers=(Tier(up_to_microtokens=None, micros_per_token=euros * 1_000_000),),
        overage_cap_microtokens=1_000_000_000 * TOKEN,
    )
    if fits:
        assert builders.plan_version(shop, **dear).published_at is not None
        return
    with pytest.raises(InvalidInput) as refusal:
        builders.plan_version(shop, **dear)
    assert [fault.field for fault in refusal.value.faults] == ["overage_cap_microtokens"]


def test_the_dearest_overage_without_a_cap_still_fits_an_invoice():
    """A billion for each token: what no invoice could hold becomes debt."""
    shop = builders.shop()
    customer = builders.customer(shop)
    dearest = (Tier(up_to_microtokens=None, micros_per_token=LOT_PRICE_MICROS_MAX),)
    version = builders.plan_version(shop, **builders.billed(overage_tiers=dearest))
    builders.subscription(customer, version)
    builders.use(customer, 10_000, occurred_at=OCTOBER + DAY)
    closing.close_due(at=NOVEMBER + DAY)
    line = InvoiceLine.objects.get(kind="overage")
    assert line.amount == Money(10**12, "EUR")
    assert line.micros == pricing.OVERAGE_MICROS_MAX


def published_meanwhile(change):
    """`change` is tried while another connection publishes a version; its tiers afterwards."""
    version = builders.plan_version(builders.shop(), published=False, **builders.billed())
    tier = OverageTier.objects.get(version=version, up_to_microtokens__isnull=True)
    begun = threading.Event()
    done: list[bool | str] = []

    def in_a_thread():
        try:
            begun.set()
            change(version, tier)
            done.append(True)
        except IntegrityError as refusal:
            done.append(str(refusal))
        finally:
            connections.close_all()

    with transaction.atomic():
        catalog.publish(version_id=version.pk, at=builders.OPENED)
        changing = threading.Thread(target=in_a_thread)
        changing.start()
        begun.wait()
        # It waits for us. Without the lock it would be through long before.
        changing.join(timeout=0.5)
        assert done == []
    changing.join()
    return done, tuple(catalog.tiers(version=version))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "change",
    [
        lambda version, tier: OverageTier.objects.filter(pk=tier.pk).update(micros_per_token=1),
        lambda version, tier: OverageTier.objects.filter(pk=tier.pk).delete(),
        lambda version, tier: OverageTier.objects.create(
            version=version, up_to_microtokens=1, micros_per_token=1
        ),
    ],
)
def test_nobody_changes_a_tier_while_its_version_is_being_published(change):
    [refusal], tiers = published_meanwhile(change)
    assert "plan version is published" in refusal
    assert tiers == builders.TIERS


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


def test_the_name_of_a_plan_or_a_pack_is_one_line():
    shop = builders.shop()
    with pytest.raises(InvalidInput, match="one line"):
        catalog.create_plan(vendor_id=shop.vendor.pk, code="plan", name="Two\nlines")
    with pytest.raises(InvalidInput, match="one line"):
        catalog.create_pack(
            vendor_id=shop.vendor.pk,
            code="pack",
            name="Two\nlines",
            microtokens=TOKEN,
            price=Money(1, "EUR"),
        )


def test_a_published_pack_is_frozen():
    pack = builders.pack(builders.shop())
    pack.microtokens = TOKEN
    with pytest.raises(IntegrityError, match="it is published"), transaction.atomic():
        pack.save()
