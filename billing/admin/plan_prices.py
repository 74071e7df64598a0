"""What a plan's version costs, in rows of its form: a price a currency, and tiers of overage."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any, TypeVar

from django import forms
from django.forms.models import BaseInlineFormSet

from billing import explain, money, plan_faults, terms
from billing.admin import fields
from billing.models import OverageTier, PackPrice, PlanPrice, PlanVersion, SizeOption
from billing.terms import Price, Size
from config.admin import OneBookForm, TokensField, add_faults
from ledger.errors import Fault
from ledger.units import MICROS_PER_UNIT_OF_MONEY
from ledger.value import Tier

AMOUNTS = ("platform_fee", "allotment_price", "commitment", "seat_price", "package_price")
Row = TypeVar("Row", PlanPrice, SizeOption, OverageTier, PackPrice)


class PartForm(OneBookForm[Row]):
    """A row in one currency. What the rows say together is checked together, in words."""

    checks_in_words = True

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        if not self.instance._state.adding and "paid_in" in self.fields:
            self.initial["paid_in"] = self.instance.currency

    def has_changed(self) -> bool:
        """A row copied from the version before is a row, though nobody typed it."""
        return bool(self.initial and self.instance._state.adding) or super().has_changed()


class PriceForm(PartForm[PlanPrice]):
    paid_in = fields.currency(label="Currency")
    platform_fee = fields.AmountField(initial=Decimal(0))
    allotment_price = fields.AmountField(label="Allotment", initial=Decimal(0))
    commitment = fields.AmountField(initial=Decimal(0))
    seat_price = fields.AmountField(label="Each seat", initial=Decimal(0))
    package_price = fields.AmountField(label="Overage package", initial=Decimal(0), required=False)

    class Meta:
        model = PlanPrice
        fields = AMOUNTS

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("package_price", ...) is None:
            cleaned["package_price"] = Decimal(0)
        return fields.with_money(cleaned, *AMOUNTS)


class SizeForm(PartForm[SizeOption]):
    paid_in = fields.currency(label="Currency")
    allotment_microtokens = TokensField(label="Tokens", widget=fields.decimal_widget())
    allotment_price = fields.AmountField(label="Price")

    class Meta:
        model = SizeOption
        fields = ("code", "name", "allotment_microtokens", "allotment_price")

    def clean(self) -> dict[str, Any]:
        return fields.with_money(super().clean() or {}, "allotment_price")


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


class TierForm(PartForm[OverageTier]):
    up_to_microtokens = TokensField(
        label="Up to (tokens of overage)",
        required=False,
        widget=fields.decimal_widget(placeholder="all the rest"),
    )
    micros_per_token = PriceField(label="Price per token")
    paid_in = fields.currency(label="Currency")

    class Meta:
        model = OverageTier
        fields = ("up_to_microtokens", "micros_per_token")

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        self.instance.currency = cleaned.get("paid_in", "")
        return cleaned


class PartsFormSet(BaseInlineFormSet[Any, Any, Any]):
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


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The rows of a version's page, each kind in a formset of its own."""

    prices: PartsFormSet
    sizes: PartsFormSet
    tiers: PartsFormSet

    @classmethod
    def of(cls, formsets: Sequence[PartsFormSet]) -> "Rows":
        return cls(**{str(formset.prefix): formset for formset in formsets})

    def typed(self) -> list[Price]:
        """What is typed in them, as a price a currency."""
        return [
            Price(
                currency=form.cleaned_data["paid_in"],
                **{name: form.cleaned_data[name].amount for name in AMOUNTS},
                sizes=[
                    Size(
                        code=size["code"],
                        name=size["name"],
                        allotment_microtokens=size["allotment_microtokens"],
                        allotment_price=size["allotment_price"].amount,
                    )
                    for size in _of_currency(self.sizes, form.cleaned_data["paid_in"])
                ],
                overage_tiers=[
                    Tier(
                        up_to_microtokens=tier["up_to_microtokens"],
                        micros_per_token=tier["micros_per_token"],
                    )
                    for tier in _of_currency(self.tiers, form.cleaned_data["paid_in"])
                ],
            )
            for form in self.prices.kept()
        ]


def _of_currency(formset: PartsFormSet, currency: str) -> list[dict[str, Any]]:
    rows = [form.cleaned_data for form in formset.kept()]
    return [row for row in rows if row["paid_in"] == currency]


def check(*, version: PlanVersion, formsets: Sequence[PartsFormSet]) -> None:
    """Say what is wrong with the rows together, each fault at its row and field."""
    if not all(formset.is_valid() for formset in formsets) or not _is_whole(version):
        return  # their own forms tell what is missing
    rows = Rows.of(formsets)
    typed = rows.typed()
    sold_in = {price.currency for price in typed}
    for form in (*rows.sizes.kept(), *rows.tiers.kept()):
        if form.cleaned_data["paid_in"] not in sold_in:
            form.add_error("paid_in", "The plan has no price in this currency.")
    for fault in plan_faults.of_prices(version=version, prices=typed):
        _say(fault, rows)


def _say(fault: Fault, rows: Rows) -> None:
    """A fault's field is a path: prices, prices.EUR.commitment, prices.EUR.sizes.small.code."""
    match fault.field.split("."):
        case [_, currency, "sizes", code, field]:
            of_code = [form for form in rows.sizes.kept() if form.cleaned_data["code"] == code]
            _at(of_code, currency, Fault(field=field, rule=fault.rule, message=fault.message))
        case [_, currency, "sizes"]:
            above(rows.sizes, f"in {currency}, {fault.message}")
        case [_, currency, "overage_tiers"]:
            several = len(rows.prices.kept()) > 1
            above(rows.tiers, f"in {currency}, {fault.message}" if several else fault.message)
        case [_, currency, field]:
            field = "paid_in" if field == "currency" else field
            found = Fault(field=field, rule=fault.rule, message=fault.message)
            _at(rows.prices.kept(), currency, found)
        case _:
            above(rows.prices, fault.message)


def _at(forms: Sequence[Any], currency: str, fault: Fault) -> None:
    """At the last row of the currency: of two that are alike it is the one too many."""
    add_faults([form for form in forms if form.cleaned_data["paid_in"] == currency][-1], [fault])


def above(formset: PartsFormSet, message: str) -> None:
    """Said above the rows: it is no single row's fault."""
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


def initial_sizes(prices: Sequence[Price]) -> list[dict[str, Any]]:
    return [{"paid_in": price.currency, **asdict(size)} for price in prices for size in price.sizes]


def initial_tiers(prices: Sequence[Price]) -> list[dict[str, Any]]:
    return [
        {
            "paid_in": price.currency,
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
    if billed_by.seat_price.amount:
        parts.append(f"{money.text(billed_by.seat_price)} a seat")
    if billed_by.allotment_microtokens:
        granted = explain.tokens(billed_by.allotment_microtokens)
        granted = f"from {granted}" if billed_by.sizes_offered else granted
        paid = billed_by.allotment_price
        parts.append(f"{granted} for {money.text(paid)}" if paid.amount else granted)
    return " + ".join(parts) or "free"
