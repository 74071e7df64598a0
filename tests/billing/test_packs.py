"""Top-up packs: prices by currency and quantity, seasons, bonus, and who may buy them."""

import uuid
from datetime import UTC, date, datetime
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from djmoney.money import Money

from billing import packs, top_ups
from billing.errors import InvalidInput, KeyReused, NotForSale
from billing.models import PackPrice, TopUp, TopUpPack
from billing.packs import PriceFrom, Season
from billing.stripe import checkout
from ledger import queries
from tests import builders
from tests.builders import DAY, DECEMBER, NOVEMBER, OCTOBER, TOKEN

pytestmark = pytest.mark.django_db


def euros(amount: int | str, from_quantity: int = 1) -> PriceFrom:
    return PriceFrom(price=Money(amount, "EUR"), from_quantity=from_quantity)


BY_QUANTITY = [euros(600), euros(550, 3), euros(500, 10), PriceFrom(price=Money(90_000, "JPY"))]
ADVENT = Season(from_on=date(2026, 12, 1), until_on=date(2026, 12, 24))


@pytest.fixture
def shop():
    return builders.shop()


def offered(customer, at=NOVEMBER) -> list[TopUpPack]:
    return [offer.pack for offer in packs.offers(customer=customer, at=at)]


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"prices": []}, "prices"),
        ({"price": Money(0, "EUR")}, "prices.EUR.1.price"),
        ({"price": Money("0.001", "EUR")}, "prices.EUR.1.price"),
        ({"price": Money("80.5", "JPY")}, "prices.JPY.1.price"),
        ({"price": Money(1, "AUD")}, "prices.AUD.1.currency"),
        ({"prices": [euros(5), euros(6, 3)]}, "prices.EUR.3.price"),
        ({"prices": [euros(5), euros(5, 3)]}, "prices.EUR.3.price"),
        ({"prices": [euros(5, 2)]}, "prices.EUR.2.from_quantity"),
        ({"prices": [euros(5), euros(4)]}, "prices.EUR.1.from_quantity"),
        ({"prices": [euros(5), euros(4, 101)]}, "prices.EUR.101.from_quantity"),
        ({"tokens": 0}, "microtokens"),
        ({"tokens": 10**9 + 1}, "microtokens"),
        ({"bonus_microtokens": -1}, "bonus_microtokens"),
        ({"validity_months": 0}, "validity_months"),
        (
            {"season": Season(from_on=date(2026, 12, 24), until_on=date(2026, 12, 23))},
            "season_until_on",
        ),
    ],
)
def test_a_pack_that_breaks_a_rule_is_refused_at_its_field(shop, changed, field):
    with pytest.raises(InvalidInput) as refusal:
        builders.pack(shop, **changed)
    assert [fault.field for fault in refusal.value.faults] == [field]
    assert not TopUpPack.objects.exists()


def test_the_name_of_a_pack_is_one_line_and_its_plans_are_its_vendors(shop):
    with pytest.raises(InvalidInput, match="one line"):
        packs.create(
            vendor_id=shop.vendor.pk,
            code="pack",
            name="Two\nlines",
            microtokens=TOKEN,
            prices=[euros(1)],
        )
    foreign = builders.plan(builders.shop())
    with pytest.raises(InvalidInput, match="same vendor"):
        builders.pack(shop, plan_ids=[foreign.pk])


def test_a_published_pack_is_frozen_with_its_prices_and_its_plans(shop):
    pack = builders.pack(shop)
    for change in (
        lambda: TopUpPack.objects.filter(pk=pack.pk).update(microtokens=TOKEN),
        lambda: PackPrice.objects.filter(pack=pack).update(price=1),
        lambda: PackPrice.objects.filter(pack=pack).delete(),
        lambda: PackPrice.objects.create(pack=pack, from_quantity=2, price=Money(1, "EUR")),
        lambda: pack.plans.add(builders.plan(shop)),
    ):
        with pytest.raises(IntegrityError, match="published"), transaction.atomic():
            change()


@pytest.mark.parametrize(
    ("quantity", "each"), [(1, 600), (2, 600), (3, 550), (9, 550), (10, 500), (100, 500)]
)
def test_the_price_of_the_quantity_that_is_reached_holds_for_all_packs(shop, quantity, each):
    pack = builders.pack(shop, prices=BY_QUANTITY, bonus_microtokens=50 * TOKEN)
    offer = packs.offer(pack=pack, customer=builders.customer(shop), at=NOVEMBER)
    quote = offer.quote(quantity=quantity)
    assert quote.price == Money(each * quantity, "EUR")
    assert (quote.microtokens, quote.bonus_microtokens) == (
        500 * TOKEN * quantity,
        50 * TOKEN * quantity,
    )


def test_more_than_fits_a_lot_is_not_sold_at_once(shop):
    customer = builders.customer(shop)
    large = builders.pack(shop, tokens=30_000_000)
    for pack, most in ((builders.pack(shop), 100), (large, 33)):
        offer = packs.offer(pack=pack, customer=customer, at=NOVEMBER)
        assert offer.quote(quantity=most).quantity == most
        for quantity in (0, most + 1):
            with pytest.raises(InvalidInput, match=f"must be from 1 to {most}"):
                offer.quote(quantity=quantity)


@pytest.mark.parametrize(
    ("amount", "affordable"), [(599, 0), (600, 1), (1_649, 2), (1_650, 3), (10_000, 5)]
)
def test_an_amount_buys_as_many_packs_as_it_can(shop, amount, affordable):
    pack = builders.pack(shop, prices=BY_QUANTITY)
    offer = packs.in_currency(pack=pack, currency="EUR")
    assert offer.affordable(5, within=Money(amount, "EUR")) == affordable


@pytest.mark.parametrize(
    ("at", "time_zone", "is_sold"),
    [
        (datetime(2026, 11, 30, 22, 59, tzinfo=UTC), "Europe/Paris", False),
        (datetime(2026, 11, 30, 23, 0, tzinfo=UTC), "Europe/Paris", True),
        (datetime(2026, 12, 24, 22, 59, tzinfo=UTC), "Europe/Paris", True),
        (datetime(2026, 12, 24, 23, 0, tzinfo=UTC), "Europe/Paris", False),
        (datetime(2026, 11, 30, 15, 0, tzinfo=UTC), "Asia/Tokyo", True),
    ],
)
def test_a_season_begins_and_ends_with_the_days_of_the_customer(shop, at, time_zone, is_sold):
    pack = builders.pack(shop, season=ADVENT)
    customer = builders.customer(shop, time_zone=time_zone)
    assert offered(customer, at) == ([pack] if is_sold else [])
    if not is_sold:
        with pytest.raises(NotForSale, match="season"):
            packs.offer(pack=pack, customer=customer, at=at)


def test_a_pack_of_a_plan_is_for_its_customers_only(shop):
    version, other = builders.plan_version(shop), builders.plan_version(shop)
    pack = builders.pack(shop, plan_ids=[version.plan_id])
    on_it, on_another, on_none = (builders.customer(shop) for _ in range(3))
    builders.subscription(on_it, version)
    builders.subscription(on_another, other)
    assert offered(on_it) == [pack]
    assert offered(on_it, OCTOBER - DAY) == []
    for customer in (on_another, on_none):
        assert offered(customer) == []
        with pytest.raises(NotForSale, match="another plan"):
            top_ups.begin(
                customer_id=customer.pk,
                pack_id=pack.pk,
                idempotency_key=uuid.uuid4(),
                at=NOVEMBER,
            )
    assert not TopUp.objects.exists()


def test_offers_are_what_is_for_sale_in_the_customers_currency_cheapest_first(shop):
    dear, cheap = builders.pack(shop), builders.pack(shop, price=Money(5, "EUR"))
    builders.pack(shop, price=Money(5, "USD"))
    builders.pack(builders.shop())
    retired = builders.pack(shop)
    packs.retire(pack_id=retired.pk, at=OCTOBER)
    retired.refresh_from_db()
    customer = builders.customer(shop)
    assert offered(customer) == [cheap, dear]
    for pack, reason in ((retired, "retired"), (builders.pack(builders.shop()), "another vendor")):
        with pytest.raises(NotForSale, match=reason):
            packs.offer(pack=pack, customer=customer, at=NOVEMBER)


def test_packs_bought_at_once_come_with_their_bonus_as_two_lots(at_stripe, shop):
    customer = builders.customer(shop)
    pack = builders.pack(shop, prices=BY_QUANTITY, bonus_microtokens=50 * TOKEN)
    facts: dict[str, Any] = {"customer_id": customer.pk, "pack_id": pack.pk}
    key, now = uuid.uuid4(), datetime.now(UTC)
    session = checkout.start(quantity=3, idempotency_key=key, at=now, **facts)
    with pytest.raises(KeyReused):
        top_ups.begin(quantity=2, idempotency_key=key, at=now, **facts)
    with pytest.raises(InvalidInput, match="quantity"):
        top_ups.begin(quantity=0, idempotency_key=uuid.uuid4(), at=now, **facts)
    at_stripe.pay(session.url)
    for _ in range(2):
        assert top_ups.fulfil(top_up_id=key, at=now)
    lots = [lot for lot in queries.lots(account_ids=[customer.account_id]) if lot.kind == "prepaid"]
    assert [(lot.source, lot.granted_microtokens // TOKEN, lot.price_micros) for lot in lots] == [
        ("bonus", 150, 0),
        ("top_up", 1_500, 1_650_000_000),
    ]
    assert len({lot.expires_at for lot in lots}) == 1
    top_up = TopUp.objects.get(pk=key)
    assert (top_up.payment.amount, top_up.quantity) == (Money(1_650, "EUR"), 3)


def test_a_pack_says_what_it_is_in_plain_sentences(shop):
    plan = builders.plan(shop, code="team")
    pack = builders.pack(
        shop,
        prices=BY_QUANTITY,
        bonus_microtokens=50 * TOKEN,
        season=ADVENT,
        plan_ids=[plan.pk],
        validity_months=1,
    )
    said = packs.sentences(pack=pack, prices=packs.prices(pack=pack), plans=[plan])
    assert [line.replace("\N{NO-BREAK SPACE}", " ") for line in said] == [
        "A pack is 500 tokens, and 50 tokens for free, valid for 1 month.",
        "It costs €600.00 each, from 3 packs on €550.00 each (8.33 % less), from 10 packs on"
        " €500.00 each (16.66 % less).",
        "It costs ¥90,000 each.",
        "It is for sale from 1 December 2026 until 24 December 2026.",
        "Customers on Team can buy it.",
    ]
    assert DECEMBER.date() == ADVENT.from_on
