"""The sales sheet of a version: in which currency and size, and whose figures it reckons with."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from django import forms

from billing import sheet, terms
from billing.admin import fields
from billing.models import PlanVersion
from billing.sheet import Assumed
from billing.terms import Price
from ledger import catalog as ledger_catalog


class SheetForm(forms.Form):
    """What may be chosen; all of it has a default."""

    minutes_saved = forms.DecimalField(
        label="Minutes that a token's work saves",
        min_value=Decimal(0),
        max_value=Decimal(10_000),
        decimal_places=2,
        widget=fields.decimal_widget(),
    )
    hourly_cost = forms.DecimalField(
        label="Cost of the person, an hour",
        min_value=Decimal(0),
        max_value=Decimal(100_000),
        decimal_places=2,
        widget=fields.decimal_widget(),
    )


def sheet_context(version: PlanVersion, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What the page shows. Figures that make no sense are told at their field, and left aside."""
    prices = terms.prices(version=version)
    price = _chosen(prices, asked)
    sizes = sorted(price.sizes, key=lambda size: size.allotment_microtokens)
    size = next((one for one in sizes if one.code == asked.get("size")), None)
    usual = Assumed()
    typed = {name: asked.get(name, getattr(usual, name)) for name in SheetForm.base_fields}
    form = SheetForm(typed)
    assumed = Assumed(**form.cleaned_data) if form.is_valid() else usual
    billed_by = terms.put_together(
        version=version, price=price, size=None if size is None else size.code
    )
    unit = ledger_catalog.unit(unit_id=version.unit_id)
    return {
        "title": f"{version.plan}",
        "version": version,
        "form": form,
        "sheet": sheet.of(terms=billed_by, unit=unit, assumed=assumed),
        "currencies": [one.currency for one in prices],
        "currency": price.currency,
        "sizes": sizes,
        "size": billed_by.size,
    }


def _chosen(prices: list[Price], asked: Mapping[str, Any]) -> Price:
    return next((one for one in prices if one.currency == asked.get("currency")), prices[0])
