"""The form of a plan's version: tokens, money and shares as people write them."""

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError
from django.forms.models import BaseInlineFormSet
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
)

from billing import catalog, explain, money
from billing.admin import fields
from billing.models import OverageTier, PlanVersion
from config.admin import OneBookForm, TokensField, add_faults
from ledger import catalog as ledger_catalog
from ledger.errors import Fault
from ledger.units import MICROS_PER_UNIT_OF_MONEY
from ledger.value import Tier

BASIS_POINTS_PER_PERCENT = 100
# Where the form says it in other units than the row.
FIELD_OF = {
    "unit_id": "rate_card_id",
    "rollover_basis_points": "rollover_percent",
    "grace": "grace_hours",
}


class ThresholdsField(forms.CharField):
    """Percentages, as people write a list: 70, 90, 100."""

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(str(one) for one in value) if isinstance(value, list) else value

    def clean(self, value: Any) -> list[int]:
        words = [word.strip() for word in super().clean(value).split(",") if word.strip()]
        if any(not word.isdecimal() or not 1 <= int(word) <= 1_000 for word in words):
            raise ValidationError("Write whole numbers from 1 to 1,000, such as 70, 90, 100.")
        return [int(word) for word in words]

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(super().has_changed(self.prepare_value(initial), data))


class PlanVersionForm(OneBookForm[PlanVersion]):
    checks_in_words = True
    books: ClassVar[Sequence[int]] = ()  # whose rate cards are offered

    rate_card_id = forms.TypedChoiceField(
        label="Rate card",
        coerce=int,
        widget=UnfoldAdminSelectWidget,
        help_text="What work costs in tokens, and thereby what a token is.",
    )
    paid_in = fields.currency(label="Currency")
    platform_fee = fields.AmountField(help_text="Flat, for each term, invoiced in advance.")
    allotment_price = fields.AmountField(help_text="For each term, invoiced in advance.")
    commitment = fields.AmountField(
        help_text="The least that a term comes to: what is missing is invoiced at its end. 0: none."
    )
    rollover_percent = forms.DecimalField(
        label="Rollover share (%)",
        max_value=Decimal(100),
        min_value=Decimal(0),
        decimal_places=2,
        widget=fields.decimal_widget(),
        help_text="Share of the allotment that may roll over, once. The rest expires.",
    )
    grace_hours = forms.IntegerField(
        label="Grace (hours)",
        min_value=0,
        max_value=31 * 24,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="How long after a term's end the closing waits for late runs.",
    )
    alert_thresholds = ThresholdsField(
        label="Alert thresholds (%)",
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="People are told when so much of the allotment is used: 70, 90, 100.",
    )

    class Meta:
        model = PlanVersion
        fields = (
            "plan",
            "rate_card_id",
            "term_months",
            "platform_fee",
            "allotment_microtokens",
            "allotment_price",
            "commitment",
            "overage_policy",
            "overage_cap_microtokens",
            "alert_thresholds",
        )

    def __init__(self, *given: Any, **options: Any) -> None:
        version = options.get("instance")
        in_our_words = initial_of(version) if version is not None and version.pk else DEFAULTS
        options["initial"] = in_our_words | (options.get("initial") or {})
        super().__init__(*given, **options)
        self.fields["rate_card_id"].choices = rate_card_choices(self.books)  # type: ignore[attr-defined]  # a choice field

    def clean(self) -> dict[str, Any]:
        amounts = ("platform_fee", "allotment_price", "commitment")
        cleaned = fields.with_money(super().clean() or {}, *amounts)
        if "rate_card_id" in cleaned:
            self.instance.unit_id = unit_of_card(self.books, cleaned["rate_card_id"])
        if "rollover_percent" in cleaned:
            points = cleaned["rollover_percent"] * BASIS_POINTS_PER_PERCENT
            self.instance.rollover_basis_points = int(points)
        if "grace_hours" in cleaned:
            self.instance.grace = timedelta(hours=cleaned["grace_hours"])
        return cleaned

    def _post_clean(self) -> None:
        super()._post_clean()
        if not self.errors:
            found = catalog.faults(version=self.instance, tiers=())
            add_faults(
                self,
                [at_our_field(fault) for fault in found if fault.field != "overage_tiers"],
            )


DEFAULTS: dict[str, Any] = {
    "rollover_percent": Decimal(20),
    "grace_hours": 24,
    "alert_thresholds": [70, 90, 100],
    "platform_fee": Decimal(0),
    "commitment": Decimal(0),
}


def initial_of(version: PlanVersion) -> dict[str, Any]:
    """A version's terms as the form shows them."""
    return {
        "rate_card_id": version.rate_card_id,
        "paid_in": version.currency,
        "term_months": version.term_months,
        "platform_fee": version.platform_fee,
        "allotment_microtokens": version.allotment_microtokens,
        "allotment_price": version.allotment_price,
        "commitment": version.commitment,
        "overage_policy": version.overage_policy,
        "overage_cap_microtokens": version.overage_cap_microtokens,
        "rollover_percent": Decimal(version.rollover_basis_points) / BASIS_POINTS_PER_PERCENT,
        "grace_hours": int(version.grace.total_seconds()) // 3600,
        "alert_thresholds": version.alert_thresholds,
    }


def at_our_field(fault: Fault) -> Fault:
    field = FIELD_OF.get(fault.field, fault.field)
    return Fault(field=field, rule=fault.rule, message=fault.message)


def rate_card_choices(books: Sequence[int]) -> list[tuple[int | str, str]]:
    """Published rate cards, each with the token it counts in."""
    choices: list[tuple[int | str, str]] = [("", "Select a rate card")]
    for book_id in books:
        units = {unit.id: unit.name for unit in ledger_catalog.units(book_id=book_id)}
        for card in ledger_catalog.rate_cards(book_id=book_id):
            choices.append((card.id, f"{card.name} (in {units[card.unit_id]})"))
    return choices


def unit_of_card(books: Sequence[int], rate_card_id: int) -> int:
    cards = [card for book_id in books for card in ledger_catalog.rate_cards(book_id=book_id)]
    return next(card.unit_id for card in cards if card.id == rate_card_id)


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


class TierForm(forms.ModelForm[OverageTier]):
    up_to_microtokens = TokensField(
        label="Up to (tokens of overage)",
        required=False,
        widget=fields.decimal_widget(placeholder="all the rest"),
    )
    micros_per_token = PriceField(label="Price per token")

    class Meta:
        model = OverageTier
        fields = ("up_to_microtokens", "micros_per_token")

    def has_changed(self) -> bool:
        """A tier copied from the version before is a tier, though nobody typed it."""
        return bool(self.initial and self.instance.pk is None) or super().has_changed()


class TiersFormSet(BaseInlineFormSet[OverageTier, PlanVersion, TierForm]):
    def clean(self) -> None:
        super().clean()
        if any(self.errors) or not _is_whole(self.instance):
            return  # its own form tells what is missing
        found = catalog.faults(version=self.instance, tiers=self.tiers())
        wrong = [fault.message for fault in found if fault.field == "overage_tiers"]
        if wrong:
            raise ValidationError([f"{text[0].upper()}{text[1:]}." for text in wrong])

    def tiers(self) -> list[Tier]:
        """What is typed, in order."""
        kept = [
            form.cleaned_data
            for form in self.forms
            if form.cleaned_data and not form.cleaned_data.get("DELETE")
        ]
        return catalog.in_order(
            Tier(
                up_to_microtokens=row["up_to_microtokens"],
                micros_per_token=row["micros_per_token"],
            )
            for row in kept
        )


def _is_whole(version: PlanVersion) -> bool:
    needed = [field for field in version._meta.concrete_fields if not field.null]
    set_later = ("id", "number")
    return all(
        getattr(version, field.attname) is not None
        for field in needed
        if field.attname not in set_later
    )


def terms_of(version: PlanVersion) -> str:
    """€490.00 + 10,000 tokens for €1,000.00."""
    parts = []
    if version.platform_fee.amount:
        parts.append(money.text(version.platform_fee))
    if version.allotment_microtokens:
        granted = explain.tokens(version.allotment_microtokens)
        price = version.allotment_price
        parts.append(f"{granted} for {money.text(price)}" if price.amount else granted)
    return " + ".join(parts) or "free"
