"""What a plan's version costs, in rows of its form: a price a currency, and tiers of overage."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from django import forms
from django.forms.models import BaseInlineFormSet

from billing import explain, money, plan_faults, terms
from billing.admin import fields
from billing.models import OverageTier, PlanPrice, PlanVersion
from billing.terms import Price
from config.admin import TokensField, add_faults
from ledger.errors import Fault
from ledger.units import MICROS_PER_UNIT_OF_MONEY
from ledger.value import Tier

AMOUNTS = ("platform_fee", "allotment_price", "commitment")


class CopiedRow:
    """A row copied from the version before is a row, though nobody typed it."""

    def has_changed(self) -> bool:
        form: Any = self
        return (bool(form.initial) and form.instance.pk is None) or bool(super().has_changed())  # type: ignore[misc]  # of a form


class PriceForm(CopiedRow, forms.ModelForm[PlanPrice]):
    paid_in = fields.currency(label="Currency")
    platform_fee = fields.AmountField(initial=Decimal(0))
    allotment_price = fields.AmountField(label="Price of the allotment", initial=Decimal(0))
    commitment = fields.AmountField(initial=Decimal(0))

    class Meta:
        model = PlanPrice
        fields = AMOUNTS

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        if not self.instance._state.adding and "paid_in" in self.fields:
            self.initial["paid_in"] = self.instance.currency

    def clean(self) -> dict[str, Any]:
        return fields.with_money(super().clean() or {}, *AMOUNTS)

    def validate_constraints(self) -> None:
        """Said in words, row by row, by `check`."""


class PriceField(forms.DecimalField):
    """A price per token, in money; the row holds micros."""

    def __init__(self, **options: Any) -> None:
        widget = fields.decimal_widget()
        super().__init__(
            max_digits=16, decimal_places=6, min_value=Decimal(0), widget=widget, **options
        )

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, int):
            return f"{(Decimal(value) / MICROS_PER_UNIT_OF_MONEY).normalize():f}"
        return value

    def clean(self, value: Any) -> int | None:
        amount = super().clean(value)
        return None if amount is None else int(amount * MICROS_PER_UNIT_OF_MONEY)

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(super().has_changed(self.prepare_value(initial), data))


class TierForm(CopiedRow, forms.ModelForm[OverageTier]):
    up_to_microtokens = TokensField(
        label="Up to (tokens of overage)",
        required=False,
        widget=fields.decimal_widget(placeholder="all the rest"),
    )
    micros_per_token = PriceField(label="Price per token")
    currency = fields.currency(label="Currency")

    class Meta:
        model = OverageTier
        fields = ("currency", "up_to_microtokens", "micros_per_token")


class PartsFormSet(BaseInlineFormSet[Any, PlanVersion, Any]):
    """Rows of a version. The first of the page's formsets checks them all together."""

    beside: Sequence["PartsFormSet"] = ()

    def clean(self) -> None:
        super().clean()
        if self.beside and self.beside[0] is self:
            check(version=self.instance, formsets=self.beside)

    def kept(self) -> list[Any]:
        """The forms of the rows that stay."""
        return [
            form
            for form in self.forms
            if form.has_changed() or form.instance.pk
            if not form.cleaned_data.get("DELETE")
        ]


def prices_typed(formsets: Sequence[PartsFormSet]) -> list[Price]:
    """What is typed in the rows, as a price a currency."""
    rows, tiers = formsets
    return [
        Price(
            currency=form.cleaned_data["paid_in"],
            **{name: form.cleaned_data[name].amount for name in AMOUNTS},
            overage_tiers=[
                Tier(
                    up_to_microtokens=tier.cleaned_data["up_to_microtokens"],
                    micros_per_token=tier.cleaned_data["micros_per_token"],
                )
                for tier in tiers.kept()
                if tier.cleaned_data["currency"] == form.cleaned_data["paid_in"]
            ],
        )
        for form in rows.kept()
    ]


def check(*, version: PlanVersion, formsets: Sequence[PartsFormSet]) -> None:
    """Say what is wrong with the rows together, each fault at its row and field."""
    if not all(formset.is_valid() for formset in formsets) or not _is_whole(version):
        return  # their own forms tell what is missing
    rows, tiers = formsets
    typed = prices_typed(formsets)
    sold_in = {price.currency for price in typed}
    for form in tiers.kept():
        if form.cleaned_data["currency"] not in sold_in:
            form.add_error("currency", "The plan has no price in this currency.")
    for fault in plan_faults.of_prices(version=version, prices=typed):
        _say(fault, rows, tiers, several=len(sold_in) > 1)


def _say(fault: Fault, rows: PartsFormSet, tiers: PartsFormSet, *, several: bool) -> None:
    if fault.field == "prices":
        _above(rows, fault.message)
        return
    _, currency, field = fault.field.split(".")
    if field == "overage_tiers":
        _above(tiers, f"in {currency}, {fault.message}" if several else fault.message)
        return
    of_currency = [form for form in rows.kept() if form.cleaned_data["paid_in"] == currency]
    at_field = "paid_in" if field == "currency" else field
    add_faults(of_currency[-1], [Fault(field=at_field, rule=fault.rule, message=fault.message)])


def _above(formset: PartsFormSet, message: str) -> None:
    formset.non_form_errors().append(f"{message[0].upper()}{message[1:]}.")


def _is_whole(version: PlanVersion) -> bool:
    needed = [field for field in version._meta.concrete_fields if not field.null]
    set_later = ("id", "number")
    return all(
        getattr(version, field.attname) is not None
        for field in needed
        if field.attname not in set_later
    )


def initial_prices(prices: Sequence[Price]) -> list[dict[str, Any]]:
    """Prices as the rows show them."""
    return [
        {"paid_in": price.currency, **{name: getattr(price, name) for name in AMOUNTS}}
        for price in prices
    ]


def initial_tiers(prices: Sequence[Price]) -> list[dict[str, Any]]:
    return [
        {
            "currency": price.currency,
            "up_to_microtokens": tier.up_to_microtokens,
            "micros_per_token": tier.micros_per_token,
        }
        for price in prices
        for tier in price.overage_tiers
    ]


def in_short(version: PlanVersion) -> str:
    """€490.00 + 10,000 tokens for €1,000.00; in each currency."""
    return " · ".join(_in_short(version, price) for price in terms.prices(version=version))


def _in_short(version: PlanVersion, price: Price) -> str:
    billed_by = terms.put_together(version=version, price=price)
    parts = []
    if billed_by.platform_fee.amount:
        parts.append(money.text(billed_by.platform_fee))
    if billed_by.allotment_microtokens:
        granted = explain.tokens(billed_by.allotment_microtokens)
        paid = billed_by.allotment_price
        parts.append(f"{granted} for {money.text(paid)}" if paid.amount else granted)
    return " + ".join(parts) or "free"
