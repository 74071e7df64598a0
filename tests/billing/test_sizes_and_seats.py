"""Plans that come in sizes, and plans that charge for seats."""

import uuid
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from djmoney.money import Money

from billing import closing, explain, pricing, subscriptions, terms
from billing.errors import InvalidInput, KeyReused, NotForSale
from billing.models import InvoiceLine, PlanVersion, SizeOption
from billing.terms import Price, Size
from ledger import catalog as ledger_catalog
from ledger import queries
from tests import builders
from tests.builders import DAY, NOVEMBER, OCTOBER, TOKEN

pytestmark = pytest.mark.django_db

SMALL = Size(
    code="small",
    name="Small",
    allotment_microtokens=1_000 * TOKEN,
    allotment_price=Decimal(100),
)
LARGE = Size(
    code="large",
    name="Large",
    allotment_microtokens=10_000 * TOKEN,
    allotment_price=Decimal(850),
)
EUROS = Price(currency="EUR", platform_fee=Decimal(50), sizes=(SMALL, LARGE))
YEN = Price(
    currency="JPY",
    sizes=(
        replace(SMALL, allotment_price=Decimal(15_000)),
        replace(LARGE, allotment_price=Decimal(130_000)),
    ),
)
IN_SIZES: dict[str, Any] = {"prices": [EUROS, YEN], "allotment_microtokens": 0}


def said(version, **options) -> list[str]:
    unit = ledger_catalog.unit(unit_id=version.unit_id)
    found = explain.explain(
        terms=terms.of_version(version=version, currency="EUR", **options), unit=unit
    )
    text = [*found.sentences, *found.example]
    return [sentence.replace("\N{NO-BREAK SPACE}", " ") for sentence in text]


@pytest.fixture
def shop():
    return builders.shop()


def test_a_subscription_grants_and_pays_the_size_that_it_picked(shop) -> None:
    version = builders.plan_version(shop, **IN_SIZES)
    customer = builders.customer(shop)
    subscription = builders.subscription(customer, version, size="large")
    [lot] = [
        lot for lot in queries.lots(account_ids=[customer.account_id]) if lot.kind == "prepaid"
    ]
    assert (lot.granted_microtokens, lot.price_micros) == (10_000 * TOKEN, 850_000_000)
    assert lot.rollover_microtokens_max == 2_000 * TOKEN
    assert [str(line.amount) for line in InvoiceLine.objects.all()] == ["€50.00", "€850.00"]
    again = {"starts_at": OCTOBER, "idempotency_key": subscription.pk, "at": OCTOBER}
    facts: dict[str, Any] = {"customer_id": customer.pk, "plan_version_id": version.pk, **again}
    assert subscriptions.subscribe(size="large", **facts) == subscription
    with pytest.raises(KeyReused):
        subscriptions.subscribe(size="small", **facts)


def test_a_size_costs_what_the_customers_currency_says(shop) -> None:
    version = builders.plan_version(shop, **IN_SIZES)
    customer = builders.customer(shop, currency="JPY")
    builders.subscription(customer, version, size="small")
    [line] = InvoiceLine.objects.all()
    assert line.amount == Money(15_000, "JPY")


@pytest.mark.parametrize(
    ("sold", "chosen", "field"),
    [
        (IN_SIZES, {}, "size"),
        (IN_SIZES, {"size": "huge"}, "size"),
        ({}, {"size": "small"}, "size"),
        ({}, {"seats": 1}, "seats"),
        ({"seat_price": Decimal(30)}, {}, "seats"),
        ({"seat_price": Decimal(30)}, {"seats": 100_001}, "seats"),
    ],
)
def test_a_choice_that_the_plan_does_not_offer_is_refused(shop, sold, chosen, field) -> None:
    version, customer = builders.plan_version(shop, **sold), builders.customer(shop)
    with pytest.raises(InvalidInput) as refusal:
        builders.subscription(customer, version, **chosen)
    assert [fault.field for fault in refusal.value.faults] == [field]
    assert not customer.subscriptions.exists()


def faulty(**changed) -> list[Price]:
    return [replace(EUROS, sizes=(SMALL, replace(LARGE, **changed)))]


@pytest.mark.parametrize(
    ("changed", "field", "rule"),
    [
        ({"allotment_microtokens": TOKEN}, "prices.EUR.allotment_price", "sizes"),
        ({"prices": faulty(code="small")}, "prices.EUR.sizes.small.code", "once"),
        (
            {"prices": faulty(allotment_price=Decimal("0.001"))},
            "prices.EUR.sizes.large.allotment_price",
            "payable",
        ),
        (
            {"prices": faulty(allotment_microtokens=0)},
            "prices.EUR.sizes.large.allotment_microtokens",
            "range",
        ),
        ({"prices": [EUROS, replace(YEN, sizes=())]}, "prices.JPY.sizes", "required"),
        (
            {"prices": [EUROS, replace(YEN, sizes=(replace(SMALL, name="Mini"), YEN.sizes[1]))]},
            "prices.JPY.sizes.small.code",
            "same",
        ),
        ({"seat_price": Decimal("0.001")}, "prices.EUR.seat_price", "payable"),
        ({"seat_price": Decimal(10_000_001)}, "prices.EUR.seat_price", "range"),
    ],
)
def test_sizes_and_seats_that_break_a_rule_are_refused_at_their_field(
    shop, changed, field, rule
) -> None:
    asked = changed if "seat_price" in changed else IN_SIZES | changed
    with pytest.raises(InvalidInput) as refusal:
        builders.plan_version(shop, **asked)
    assert (field, rule) in [(fault.field, fault.rule) for fault in refusal.value.faults]
    assert not PlanVersion.objects.exists()


def test_the_sizes_of_a_published_version_are_frozen_with_it(shop) -> None:
    version = builders.plan_version(shop, **IN_SIZES)
    with (
        pytest.raises(IntegrityError, match="belongs to is published"),
        transaction.atomic(),
    ):
        SizeOption.objects.filter(version=version).update(allotment_price=1)


def test_each_size_says_what_it_saves_against_the_smallest(shop) -> None:
    version = builders.plan_version(shop, **IN_SIZES)
    assert (
        "Each month starts with the tokens of the size you choose, invoiced in advance: Small 1,000"
        " tokens for €100.00, Large 10,000 tokens for €850.00 (15 % less a token)."
    ) in said(version)
    assert "Example: in a month in size Small you use 700 tokens of 1,000 tokens." in said(version)
    assert (
        "Each month starts with 10,000 tokens for €850.00, invoiced in advance: €0.085 a token."
    ) in said(version, size="large")
    with pytest.raises(NotForSale, match="no size 'huge'"):
        said(version, size="huge")


@pytest.mark.parametrize(
    ("micros", "microtokens", "saves"),
    [
        (100, 10, 0),
        (99, 10, 100),
        (85, 10, 1_500),
        (110, 10, -1_000),
        (2, 3, 9_333),
        (0, 1, 10_000),
    ],
)
def test_a_discount_is_never_told_larger_than_it_is(micros, microtokens, saves) -> None:
    found = pricing.discount_basis_points(
        micros=micros, microtokens=microtokens, from_micros=100, from_microtokens=10
    )
    assert found == saves


def test_seats_are_invoiced_in_advance_beside_what_is_used(shop) -> None:
    version = builders.plan_version(
        shop, **builders.billed(seat_price=Decimal("30.50"), commitment=Decimal(3_000))
    )
    customer = builders.customer(shop)
    builders.subscription(customer, version, seats=25)
    closing.close_due(at=NOVEMBER + DAY)
    seats = InvoiceLine.objects.filter(kind="seats").order_by("period__number")
    assert [line.amount for line in seats] == [Money("762.50", "EUR")] * 2
    assert seats[0].description == "25 seats at €30.50, 1 October 2026 to 1 November 2026"
    # They count towards the commitment: 500 + 762.50 + 1,000 come to 2,262.50.
    assert InvoiceLine.objects.get(kind="true_up").amount == Money("737.50", "EUR")


def test_a_seat_plan_says_so_and_reckons_with_ten(shop) -> None:
    version = builders.plan_version(shop, seat_price=Decimal(30))
    assert (
        "The platform costs €500.00 a month and €30.00 for each seat, invoiced in advance."
    ) in said(version)
    assert said(version)[-3:-1] == [
        "Example: in a month with 10 seats you use 700 tokens of 1,000 tokens.",
        "You pay €1,800.00.",
    ]
    only_seats = builders.plan_version(
        shop, **builders.billed(platform_fee=Decimal(0), seat_price=Decimal(30))
    )
    assert "Each seat costs €30.00 a month, invoiced in advance." in said(only_seats)
    assert "10 seats: €300.00." in said(only_seats)


def test_the_same_key_for_another_number_of_seats_is_refused(shop) -> None:
    version = builders.plan_version(shop, seat_price=Decimal(30))
    customer, key = builders.customer(shop), uuid.uuid4()
    facts: dict[str, Any] = {
        "customer_id": customer.pk,
        "plan_version_id": version.pk,
        "starts_at": OCTOBER,
    }
    subscriptions.subscribe(seats=3, idempotency_key=key, at=OCTOBER, **facts)
    with pytest.raises(KeyReused):
        subscriptions.subscribe(seats=4, idempotency_key=key, at=OCTOBER, **facts)
