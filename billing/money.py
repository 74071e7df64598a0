"""Money in its three forms, and the only place that rounds it.

`Money` (django-money) is what people and the database see. *Micros*, millionths of the currency,
are how exact costs are counted. *Minor units* are how Stripe counts, in the exponents of its own
table (which is not ISO 4217's): https://docs.stripe.com/currencies#zero-decimal

Exact costs are rounded once, half up, when they become the amount of an invoice line. No other
conversion rounds: it raises AmountNotPayable.
"""

from decimal import Decimal
from typing import Final, NewType

from babel.numbers import get_currency_symbol
from djmoney.money import Money

from billing.errors import AmountNotPayable
from ledger.units import MICROS_PER_UNIT_OF_MONEY

MinorUnits = NewType("MinorUnits", int)

ZERO_DECIMAL: Final = frozenset(
    [
        "BIF",
        "CLP",
        "DJF",
        "GNF",
        "JPY",
        "KMF",
        "KRW",
        "MGA",
        "PYG",
        "RWF",
        "VND",
        "VUV",
        "XAF",
        "XOF",
        "XPF",
    ]
)
# Sent in hundredths, as if they had cents, but only whole amounts can be paid.
WHOLE_IN_HUNDREDTHS: Final = frozenset(["ISK", "UGX"])
THREE_DECIMAL: Final = frozenset(["BHD", "JOD", "KWD", "OMR", "TND"])
# What Stripe charges at least: https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts
# Of a currency that is not in its list it charges what is worth half a dollar: no such thing can be
# known here, so one whole unit is taken.
CHARGED_LEAST: Final = {
    "AED": Decimal(2),
    "AUD": Decimal("0.50"),
    "BGN": Decimal(1),
    "BRL": Decimal("0.50"),
    "CAD": Decimal("0.50"),
    "CHF": Decimal("0.50"),
    "CZK": Decimal(15),
    "DKK": Decimal("2.50"),
    "EUR": Decimal("0.50"),
    "GBP": Decimal("0.30"),
    "HKD": Decimal(4),
    "HUF": Decimal(175),
    "INR": Decimal("0.50"),
    "JPY": Decimal(50),
    "MXN": Decimal(10),
    "MYR": Decimal(2),
    "NOK": Decimal(3),
    "NZD": Decimal("0.50"),
    "PLN": Decimal(2),
    "RON": Decimal(2),
    "SEK": Decimal(3),
    "SGD": Decimal("0.50"),
    "THB": Decimal(10),
    "USD": Decimal("0.50"),
}


def exponent(currency: str) -> int:
    """Decimal places of the currency's minor unit at Stripe."""
    if currency.upper() in ZERO_DECIMAL:
        return 0
    return 3 if currency.upper() in THREE_DECIMAL else 2


def quantum(currency: str) -> Decimal:
    """The smallest amount that can be paid. (Stripe wants the last of three places to be 0.)"""
    if currency.upper() in ZERO_DECIMAL | WHOLE_IN_HUNDREDTHS:
        return Decimal(1)
    return Decimal("0.01")


def least_charged(currency: str) -> Money:
    """Less than this can't be charged: Stripe would set it against the customer's balance."""
    return Money(CHARGED_LEAST.get(currency.upper(), Decimal(1)), currency.upper())


def to_minor_units(money: Money) -> MinorUnits:
    """As Stripe counts. Raises AmountNotPayable rather than round."""
    code = money.currency.code
    amount: Decimal = money.amount
    if not amount.is_finite() or amount != amount.quantize(quantum(code)):
        raise AmountNotPayable(amount=amount, currency=code)
    return MinorUnits(int(amount.scaleb(exponent(code))))


def from_minor_units(minor_units: int, currency: str) -> Money:
    return Money(Decimal(minor_units).scaleb(-exponent(currency)), currency.upper())


def payable(minor_units: int, currency: str) -> int:
    """Minor units rounded down to what can be paid: of the króna, whole hundreds."""
    step = int(quantum(currency).scaleb(exponent(currency)))
    return minor_units - minor_units % step


def to_micros(money: Money) -> int:
    """Exactly. Raises AmountNotPayable for a fraction of a micro."""
    micros = money.amount * MICROS_PER_UNIT_OF_MONEY
    if micros != int(micros):
        raise AmountNotPayable(amount=money.amount, currency=money.currency.code)
    return int(micros)


def rounded(micros: int, currency: str) -> Money:
    """What is paid for an exact cost: rounded half up to what the currency can pay."""
    assert micros >= 0
    return Money(_decimal(bookable_micros(micros, currency)), currency)


def bookable_micros(micros: int, currency: str) -> int:
    """The same for a balance, which may be below 0: half of a cent goes up, still in micros."""
    step = int(quantum(currency) * MICROS_PER_UNIT_OF_MONEY)
    return (2 * micros + step) // (2 * step) * step


def quotient(numerator: int, denominator: int, *, places: int) -> Decimal:
    """A unit price, or another share, to so many places; exact if these are enough."""
    scaled = (2 * numerator * 10**places + denominator) // (2 * denominator)
    return Decimal(scaled).scaleb(-places)


def text(money: Money) -> str:
    """As a person reads it: €1,234.50."""
    return _text(money.amount, money.currency.code, exponent(money.currency.code))


def text_of(amount: Decimal, currency: str) -> str:
    """The same, of an amount that may be below 0: -€1,234.50."""
    sign = "-" if amount < 0 else ""
    return sign + _text(abs(amount), currency, exponent(currency))


def price_text(micros: int, currency: str) -> str:
    """A price that may be finer than what can be paid: €0.0125."""
    amount = _decimal(micros).normalize()
    places = -int(amount.as_tuple().exponent)
    return _text(amount, currency, max(places, exponent(currency)))


def _decimal(micros: int) -> Decimal:
    return Decimal(micros) / MICROS_PER_UNIT_OF_MONEY


def _text(amount: Decimal, currency: str, places: int) -> str:
    symbol = get_currency_symbol(currency, locale="en")
    space = "\N{NO-BREAK SPACE}" if symbol.isalpha() else ""
    return f"{symbol}{space}{amount:,.{places}f}"
