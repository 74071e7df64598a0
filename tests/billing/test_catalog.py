import threading
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import IntegrityError, connections, transaction
from djmoney.money import Money

from billing import catalog, closing, pricing, terms
from billing.errors import AlreadyPublished, InvalidInput, NotForSale
from billing.models import InvoiceLine, OverageTier, PlanPrice, PlanVersion
from billing.terms import Price
from ledger.units import LOT_PRICE_MICROS_MAX
from ledger.value import Package, Tier, Tiers
from tests import builders
from tests.builders import DAY, NOVEMBER, OCTOBER, TOKEN

pytestmark = pytest.mark.django_db

BILL = PlanVersion.OveragePolicy.BILL
REST = Tier(up_to_microtokens=None, micros_per_token=1)
TO_9 = Tier(up_to_microtokens=9, micros_per_token=1)
PACKAGE, VOLUME = PlanVersion.OverageModel.PACKAGE, PlanVersion.OverageModel.VOLUME
BY_PACKAGE = {
    "overage_policy": BILL,
    "overage_model": PACKAGE,
    "overage_package_microtokens": 1_000 * TOKEN,
    "package_price": Decimal(5),
}
FAULTY_TERMS = [
    ({"currency": "XYZ"}, "prices.XYZ.currency", "currency"),
    ({"currency": "AUD"}, "prices.AUD.currency", "currency"),
    ({"prices": ()}, "prices", "required"),
    ({"prices": [Price(currency="EUR")] * 2}, "prices.EUR.currency", "once"),
    (
        {"prices": [Price(currency="EUR"), Price(currency="JPY", platform_fee=Decimal("80.5"))]},
        "prices.JPY.platform_fee",
        "payable",
    ),
    (
        {
            "overage_policy": BILL,
            "prices": [Price(currency="EUR", overage_tiers=(REST,)), Price(currency="USD")],
        },
        "prices.USD.overage_tiers",
        "required",
    ),
    ({"platform_fee": Decimal("0.005")}, "prices.EUR.platform_fee", "payable"),
    ({"platform_fee": Decimal(-1)}, "prices.EUR.platform_fee", "range"),
    ({"allotment_price": Decimal(10**10)}, "prices.EUR.allotment_price", "range"),
    ({"allotment_microtokens": 0}, "prices.EUR.allotment_price", "grants"),
    ({"allotment_microtokens": -1}, "allotment_microtokens", "range"),
    ({"allotment_microtokens": 10**15 + 1}, "allotment_microtokens", "range"),
    ({"term_months": 0}, "term_months", "range"),
    ({"term_months": 37}, "term_months", "range"),
    ({"rollover_basis_points": 10_001}, "rollover_basis_points", "range"),
    ({"grace": timedelta(days=32)}, "grace", "range"),
    ({"alert_thresholds": (90, 70)}, "alert_thresholds", "ascending"),
    ({"alert_thresholds": (70, 70)}, "alert_thresholds", "ascending"),
    ({"alert_thresholds": (0,)}, "alert_thresholds", "range"),
    ({"alert_thresholds": (101,)}, "alert_thresholds", "range"),
    ({"overage_tiers": (REST,)}, "prices.EUR.overage_tiers", "policy"),
    ({"overage_cap_microtokens": 5}, "overage_cap_microtokens", "policy"),
    ({"overage_policy": BILL}, "prices.EUR.overage_tiers", "required"),
    ({"overage_policy": "review"}, "prices.EUR.overage_tiers", "required"),
    ({"overage_soft_cap_microtokens": 5}, "overage_soft_cap_microtokens", "policy"),
    (
        {
            "overage_policy": "review",
            "overage_tiers": (REST,),
            "overage_soft_cap_microtokens": 5,
        },
        "overage_soft_cap_microtokens",
        "policy",
    ),
    (
        {"overage_policy": BILL, "overage_tiers": (REST,), "overage_soft_cap_microtokens": 0},
        "overage_soft_cap_microtokens",
        "range",
    ),
    (
        {
            "overage_policy": BILL,
            "overage_tiers": (REST,),
            "overage_soft_cap_microtokens": 5,
            "overage_cap_microtokens": 5,
        },
        "overage_soft_cap_microtokens",
        "order",
    ),
    ({"overage_policy": BILL, "overage_tiers": (TO_9,)}, "prices.EUR.overage_tiers", "last"),
    ({"overage_policy": BILL, "overage_tiers": (REST, REST)}, "prices.EUR.overage_tiers", "last"),
    (
        {"overage_policy": BILL, "overage_tiers": (TO_9, TO_9, REST)},
        "prices.EUR.overage_tiers",
        "ascending",
    ),
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
        "prices.EUR.overage_tiers",
        "price",
    ),
    (
        {"overage_package_microtokens": TOKEN},
        "overage_package_microtokens",
        "model",
    ),
    ({"overage_model": PACKAGE}, "overage_package_microtokens", "range"),
    (BY_PACKAGE | {"overage_package_microtokens": 0}, "overage_package_microtokens", "range"),
    (
        BY_PACKAGE | {"overage_package_microtokens": 10**15 + 1},
        "overage_package_microtokens",
        "range",
    ),
    (BY_PACKAGE | {"package_price": Decimal(0)}, "prices.EUR.package_price", "required"),
    (BY_PACKAGE | {"package_price": Decimal("0.001")}, "prices.EUR.package_price", "payable"),
    (BY_PACKAGE | {"package_price": Decimal(-1)}, "prices.EUR.package_price", "range"),
    (BY_PACKAGE | {"overage_tiers": (REST,)}, "prices.EUR.overage_tiers", "policy"),
    ({"package_price": Decimal(1)}, "prices.EUR.package_price", "model"),
    (
        BY_PACKAGE
        | {"package_price": Decimal(10**9), "overage_cap_microtokens": 1_001 * 1_000 * TOKEN},
        "prices.EUR.package_price",
        "amount",
    ),
    ({"overage_policy": BILL, "overage_model": VOLUME}, "prices.EUR.overage_tiers", "required"),
    (
        {"overage_policy": BILL, "overage_model": VOLUME, "overage_tiers": (TO_9,)},
        "prices.EUR.overage_tiers",
        "last",
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
    price = version.prices.get()
    price.platform_fee = Money(1, "EUR")
    price.save()
    builders.publish(version)
    with pytest.raises(AlreadyPublished):
        builders.publish(version)

    version.refresh_from_db()
    version.term_months = 3
    with pytest.raises(IntegrityError, match="it is published"), transaction.atomic():
        version.save()
    with pytest.raises(IntegrityError, match="is published"), transaction.atomic():
        PlanVersion.objects.filter(pk=version.pk).delete()
    assert in_euros(version).platform_fee == Money(1, "EUR")
    assert in_euros(version).term_months == 1


def no_money(currency):
    amounts = ("platform_fee", "allotment_price", "commitment", "seat_price")
    return dict.fromkeys(amounts, Money(0, currency))


def in_euros(version):
    fresh = PlanVersion.objects.get(pk=version.pk)
    return terms.of_version(version=fresh, currency="EUR")


def test_the_prices_and_tiers_of_a_published_version_are_frozen_with_it():
    version = builders.plan_version(builders.shop(), **builders.billed())
    for change in (
        lambda: PlanPrice.objects.filter(version=version).update(platform_fee=1),
        lambda: PlanPrice.objects.filter(version=version).delete(),
        lambda: PlanPrice.objects.create(version=version, **no_money("USD")),
        lambda: OverageTier.objects.filter(version=version).update(micros_per_token=1),
        lambda: OverageTier.objects.filter(version=version).delete(),
        lambda: OverageTier.objects.create(
            version=version, currency="EUR", up_to_microtokens=7, micros_per_token=1
        ),
    ):
        with (
            pytest.raises(IntegrityError, match="belongs to is published"),
            transaction.atomic(),
        ):
            change()
    assert in_euros(version).tiers == Tiers(steps=builders.TIERS)


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
    assert [fault.field for fault in refusal.value.faults] == ["prices.EUR.overage_tiers"]


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
        builders.publish(version)
        changing = threading.Thread(target=in_a_thread)
        changing.start()
        begun.wait()
        # It waits for us. Without the lock it would be through long before.
        changing.join(timeout=0.5)
        assert done == []
    changing.join()
    return done, in_euros(version).tiers


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "change",
    [
        lambda version, tier: OverageTier.objects.filter(pk=tier.pk).update(micros_per_token=1),
        lambda version, tier: OverageTier.objects.filter(pk=tier.pk).delete(),
        lambda version, tier: OverageTier.objects.create(
            version=version, currency="EUR", up_to_microtokens=1, micros_per_token=1
        ),
    ],
)
def test_nobody_changes_a_tier_while_its_version_is_being_published(change):
    [refusal], tiers = published_meanwhile(change)
    assert "belongs to is published" in refusal
    assert tiers == Tiers(steps=builders.TIERS)


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


def test_the_currency_of_a_customer_picks_the_price():
    shop = builders.shop()
    prices = [
        Price(currency="EUR", platform_fee=Decimal(100), overage_tiers=builders.TIERS),
        Price(currency="JPY", platform_fee=Decimal(16_000), overage_tiers=(REST,)),
    ]
    version = builders.plan_version(shop, prices=prices, overage_policy=BILL)
    for currency, fee, tiers in (("EUR", 100, builders.TIERS), ("JPY", 16_000, (REST,))):
        customer = builders.customer(shop, currency=currency)
        billed_by = terms.of(subscription=builders.subscription(customer, version))
        assert (billed_by.platform_fee, billed_by.tiers) == (
            Money(fee, currency),
            Tiers(steps=tiers),
        )
        fee_line = InvoiceLine.objects.get(invoice__customer=customer)
        assert fee_line.amount == Money(fee, currency)


def test_terms_name_the_model_of_overage():
    shop = builders.shop()
    steps = {"overage_policy": BILL, "overage_tiers": builders.TIERS}
    package = Package(microtokens=1_000 * TOKEN, micros=5_000_000)
    for changed, tiers in (
        ({}, None),
        ({"overage_model": VOLUME}, None),
        (steps, Tiers(steps=builders.TIERS)),
        (steps | {"overage_model": VOLUME}, Tiers(model="volume", steps=builders.TIERS)),
        (BY_PACKAGE, Tiers(model="package", package=package)),
    ):
        assert in_euros(builders.plan_version(shop, **changed)).tiers == tiers


def test_the_name_of_a_plan_is_one_line():
    shop = builders.shop()
    with pytest.raises(InvalidInput, match="one line"):
        catalog.create_plan(vendor_id=shop.vendor.pk, code="plan", name="Two\nlines")
