from decimal import Decimal

import pytest
from djmoney.money import Money
from hypothesis import given
from hypothesis import strategies as st

from billing import money
from billing.errors import AmountNotPayable

# https://docs.stripe.com/currencies#special-cases
MINOR_UNITS = [
    ("10.99", "USD", 1099),
    ("500", "JPY", 500),
    ("80", "JPY", 80),
    ("5", "ISK", 500),
    ("5", "UGX", 500),
    ("5.12", "KWD", 5120),
    ("10.45", "HUF", 1045),
    ("800.45", "TWD", 80045),
    ("0", "EUR", 0),
]


@pytest.mark.parametrize(("amount", "currency", "minor_units"), MINOR_UNITS)
def test_an_amount_is_sent_in_the_exponent_that_stripe_uses(amount, currency, minor_units):
    assert money.to_minor_units(Money(amount, currency)) == minor_units
    assert money.from_minor_units(minor_units, currency.lower()) == Money(amount, currency)


@pytest.mark.parametrize(
    ("amount", "currency"),
    [
        ("0.5", "JPY"),
        ("5.5", "ISK"),
        ("5.5", "UGX"),
        ("5.124", "KWD"),
        ("1.005", "USD"),
        ("NaN", "EUR"),
    ],
)
def test_an_amount_that_cannot_be_paid_is_refused_never_rounded(amount, currency):
    with pytest.raises(AmountNotPayable):
        money.to_minor_units(Money(amount, currency))


@pytest.mark.parametrize(
    ("micros", "currency", "amount"),
    [
        (4_999, "EUR", "0.00"),
        (5_000, "EUR", "0.01"),
        (14_999, "EUR", "0.01"),
        (15_000, "EUR", "0.02"),
        (241_666_667, "EUR", "241.67"),
        (499_999, "JPY", "0"),
        (500_000, "JPY", "1"),
        (5_000, "KWD", "0.01"),
    ],
)
def test_an_exact_cost_is_rounded_half_up_to_what_can_be_paid(micros, currency, amount):
    assert money.rounded(micros, currency) == Money(amount, currency)


@given(st.integers(0, 10**15), st.sampled_from(["EUR", "JPY", "KWD", "ISK"]))
def test_what_was_rounded_can_be_paid_and_is_off_by_half_a_unit_at_most(micros, currency):
    amount = money.rounded(micros, currency)
    money.to_minor_units(amount)
    assert abs(money.to_micros(amount) - micros) * 2 <= money.quantum(currency) * 1_000_000


def test_micros_are_exact_or_refused():
    assert money.to_micros(Money("0.000001", "EUR")) == 1
    with pytest.raises(AmountNotPayable):
        money.to_micros(Money("0.0000001", "EUR"))


def test_money_reads_as_people_write_it():
    assert money.text(Money("1234.5", "EUR")) == "€1,234.50"
    assert money.text(Money(80, "JPY")) == "¥80"
    assert money.text(Money(Decimal("5.12"), "KWD")) == "KWD\N{NO-BREAK SPACE}5.120"
    assert money.price_text(12_500, "EUR") == "€0.0125"
    assert money.price_text(20_000, "EUR") == "€0.02"
    assert money.price_text(0, "EUR") == "€0.00"


@pytest.mark.parametrize(
    ("minor_units", "currency", "payable"),
    [
        (1099, "EUR", 1099),
        (501, "JPY", 501),
        (599, "ISK", 500),
        (500, "UGX", 500),
        (5127, "KWD", 5120),
    ],
)
def test_minor_units_are_rounded_down_to_what_can_be_paid(minor_units, currency, payable):
    assert money.payable(minor_units, currency) == payable
