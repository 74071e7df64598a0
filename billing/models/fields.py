"""Money in a row: an amount, and the currency that all amounts of the row are in."""

from typing import Any

from django.db import models
from djmoney.models.fields import CurrencyField, MoneyField
from djmoney.money import Money

DIGITS_MAX = 16
DECIMAL_PLACES = 3  # of the currency with most (KWD)


def currency() -> models.Field[str, str]:
    field: models.Field[str, str] = CurrencyField(default=None, editable=False)
    return field


def amount(**options: Any) -> models.Field[Money, Money]:
    """Beside a `currency`; assigning Money sets both."""
    field: models.Field[Money, Money] = MoneyField(
        max_digits=DIGITS_MAX,
        decimal_places=DECIMAL_PLACES,
        currency_field_name="currency",
        default_currency=None,
        **options,
    )
    return field
