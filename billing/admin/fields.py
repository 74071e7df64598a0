"""How money is typed: one currency for the row, and amounts in it."""

from decimal import Decimal
from typing import Any

from django import forms
from django.conf import settings
from djmoney.money import Money
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from billing.models import fields as columns


def currency(**options: Any) -> forms.ChoiceField:
    """Of a row whose own column is set by its amounts, under another name: `paid_in`."""
    return forms.ChoiceField(
        choices=[(code, code) for code in settings.CURRENCIES],
        widget=UnfoldAdminSelectWidget,
        **options,
    )


def decimal_widget(**attributes: str) -> Any:
    attributes = {"inputmode": "decimal", "autocomplete": "off"} | attributes
    return UnfoldAdminTextInputWidget(attrs=attributes)


class AmountField(forms.DecimalField):
    """An amount in the row's currency, which another field of the form names."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            max_digits=columns.DIGITS_MAX,
            decimal_places=columns.DECIMAL_PLACES,
            min_value=Decimal(0),
            widget=decimal_widget(),
            **options,
        )

    def prepare_value(self, value: Any) -> Any:
        amount = value.amount if isinstance(value, Money) else value
        return f"{amount.normalize():f}" if isinstance(amount, Decimal) else amount

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(super().has_changed(self.prepare_value(initial), data))


def with_money(cleaned: dict[str, Any], *names: str) -> dict[str, Any]:
    """The cleaned data, with its amounts as Money in its currency."""
    for name in names:
        if isinstance(cleaned.get(name), Decimal) and cleaned.get("paid_in"):
            cleaned[name] = Money(cleaned[name], cleaned["paid_in"])
    return cleaned
