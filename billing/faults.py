"""What may be wrong with anything in the catalog: names and amounts of money."""

from collections.abc import Sequence

from django.conf import settings
from djmoney.money import Money

from billing import money, names
from billing.errors import AmountNotPayable, InvalidInput
from ledger.errors import Fault
from ledger.units import LOT_PRICE_MICROS_MAX


def refuse(found: Sequence[Fault]) -> None:
    """Raises InvalidInput, if there is anything."""
    if found:
        raise InvalidInput(faults=found)


def fault(field: str, rule: str, message: str) -> Fault:
    return Fault(field=field, rule=rule, message=message)


def of_name(name: str) -> list[Fault]:
    if names.is_plain(name):
        return []
    return [fault("name", "plain", "must be one line, without control characters")]


def of_currency(field: str, currency: str) -> list[Fault]:
    if currency in settings.CURRENCIES:
        return []
    return [fault(field, "currency", f"must be one of {', '.join(settings.CURRENCIES)}")]


def of_money(field: str, price: Money) -> list[Fault]:
    """Of a price in a currency that is one of ours: payable to the cent, and within bounds."""
    try:
        micros = money.to_micros(price)
        money.to_minor_units(price)
    except AmountNotPayable as error:
        places = -int(money.quantum(error.currency).as_tuple().exponent)
        most = f"at most {places} decimal places" if places else "whole amounts only"
        message = f"is not an amount that can be paid in {error.currency}: {most}"
        return [fault(field, "payable", message)]
    if not 0 <= micros <= LOT_PRICE_MICROS_MAX:
        return [fault(field, "range", "must be from 0 to a billion")]
    return []
