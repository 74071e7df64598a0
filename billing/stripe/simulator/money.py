"""What Stripe demands of amounts: integers in the currency's smallest unit, within its limits.

https://docs.stripe.com/currencies
"""

from billing.stripe.simulator.errors import InvalidRequest

AMOUNT_MAX = 999_999_999_999

# The least that can be charged; for currencies not listed, one unit.
CHARGE_MIN = {
    "aed": 200, "aud": 50, "bgn": 100, "brl": 50, "cad": 50, "chf": 50, "czk": 1500, "dkk": 250,
    "eur": 50, "gbp": 30, "hkd": 400, "huf": 17500, "inr": 50, "jpy": 50, "mxn": 1000, "myr": 200,
    "nok": 300, "nzd": 50, "pln": 200, "ron": 200, "sek": 300, "sgd": 50, "thb": 1000, "usd": 50,
}  # fmt: skip
# Sent in thousandths, but the last digit must be 0; sent in hundredths, but no fraction is allowed.
MULTIPLES = {"bhd": 10, "jod": 10, "kwd": 10, "omr": 10, "tnd": 10, "isk": 100, "ugx": 100}

CURRENCY_CODES = (
    "aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bhd bif bmd bnd bob brl bsd bwp byn"
    " bzd cad cdf chf clp cny cop crc cve czk djf dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd"
    " gnf gtq gyd hkd hnl hrk htg huf idr ils inr isk jmd jod jpy kes kgs khr kmf krw kwd kyd kzt"
    " lak lbp lkr lrd lsl mad mdl mga mkd mmk mnt mop mur mvr mwk mxn myr mzn nad ngn nio nok npr"
    " nzd omr pab pen pgk php pkr pln pyg qar ron rsd rub rwf sar sbd scr sek sgd shp sle sos srd"
    " std szl thb tjs tnd top try ttd twd tzs uah ugx usd uyu uzs vnd vuv wst xaf xcd xcg xof xpf"
    " yer zar zmw"
)
CURRENCIES = frozenset(CURRENCY_CODES.split())


def checked_currency(currency: str, *, param: str) -> str:
    """Lower case, and one that Stripe knows."""
    if currency.lower() not in CURRENCIES:
        raise InvalidRequest(f"Invalid currency: {currency.lower()}", param=param)
    if currency != currency.lower():
        raise InvalidRequest(f"Invalid currency: {currency}; write it in lower case", param=param)
    return currency


def checked_amount(amount: int, currency: str, *, param: str) -> int:
    """An amount as it may stand in a price or a line; negative ones too."""
    multiple = MULTIPLES.get(currency, 1)
    if amount % multiple:
        raise InvalidRequest(
            f"Invalid amount: {amount}; in {currency} it must be divisible by {multiple}",
            param=param,
        )
    if abs(amount) > AMOUNT_MAX:
        raise InvalidRequest(
            f"Invalid amount: {amount} is too large", code="amount_too_large", param=param
        )
    return amount


def charge_min(currency: str) -> int:
    return CHARGE_MIN.get(currency, 1)


def check_chargeable(amount: int, currency: str, *, param: str) -> None:
    checked_amount(amount, currency, param=param)
    if amount < charge_min(currency):
        raise InvalidRequest(
            f"Amount must be at least {charge_min(currency)} in {currency}",
            code="amount_too_small",
            param=param,
        )


def shown_amount(amount: int, currency: str) -> str:
    """For people: 1099 eur -> 10.99 EUR."""
    digits = places(currency)
    whole, part = divmod(abs(amount), 10**digits)
    sign = "-" if amount < 0 else ""
    fraction = f".{part:0{digits}}" if digits else ""
    return f"{sign}{whole:,}{fraction} {currency.upper()}"


def places(currency: str) -> int:
    if currency in {"bhd", "jod", "kwd", "omr", "tnd"}:
        return 3
    zero = "bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf"
    return 0 if currency in zero.split() else 2
