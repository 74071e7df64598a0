"""The form of a plan's version: tokens and shares as people write them."""

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
)

from billing import plan_faults
from billing.admin import fields
from billing.models import PlanVersion
from config.admin import OneBookForm, add_faults
from ledger import catalog as ledger_catalog
from ledger.errors import Fault

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
            "allotment_microtokens",
            "grant_on_payment",
            "overage_policy",
            "overage_model",
            "overage_package_microtokens",
            "overage_cap_microtokens",
            "dunning_policy",
            "overage_soft_cap_microtokens",
            "alert_thresholds",
            "trial_days",
            "trial_microtokens",
            "welcome_microtokens",
            "welcome_months",
        )

    def __init__(self, *given: Any, **options: Any) -> None:
        version = options.get("instance")
        in_our_words = initial_of(version) if version is not None and version.pk else DEFAULTS
        options["initial"] = in_our_words | (options.get("initial") or {})
        super().__init__(*given, **options)
        self.fields["rate_card_id"].choices = rate_card_choices(self.books)  # type: ignore[attr-defined]  # a choice field

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if "rate_card_id" in cleaned:
            self.instance.unit_id = unit_of_card(self.books, cleaned["rate_card_id"])
        if "rollover_percent" in cleaned:
            points = cleaned["rollover_percent"] * BASIS_POINTS_PER_PERCENT
            self.instance.rollover_basis_points = int(points)
        for name, default in LEFT_EMPTY.items():
            if name in cleaned and cleaned[name] is None:
                cleaned[name] = default
        if "grace_hours" in cleaned:
            self.instance.grace = timedelta(hours=cleaned["grace_hours"])
        return cleaned

    def _post_clean(self) -> None:
        super()._post_clean()
        if not self.errors:
            found = plan_faults.of_version(version=self.instance)
            add_faults(self, [at_our_field(fault) for fault in found])


LEFT_EMPTY = {
    "trial_days": 0,
    "trial_microtokens": 0,
    "welcome_microtokens": 0,
    "welcome_months": 3,
}
DEFAULTS: dict[str, Any] = {
    "rollover_percent": Decimal(20),
    "grace_hours": 24,
    "alert_thresholds": [70, 90, 100],
}


def initial_of(version: PlanVersion) -> dict[str, Any]:
    """A version's terms as the form shows them."""
    return {
        "rate_card_id": version.rate_card_id,
        "term_months": version.term_months,
        "allotment_microtokens": version.allotment_microtokens,
        "grant_on_payment": version.grant_on_payment,
        "overage_policy": version.overage_policy,
        "overage_model": version.overage_model,
        "overage_package_microtokens": version.overage_package_microtokens,
        "overage_cap_microtokens": version.overage_cap_microtokens,
        "overage_soft_cap_microtokens": version.overage_soft_cap_microtokens,
        "rollover_percent": Decimal(version.rollover_basis_points) / BASIS_POINTS_PER_PERCENT,
        "grace_hours": int(version.grace.total_seconds()) // 3600,
        "dunning_policy": version.dunning_policy,
        "alert_thresholds": version.alert_thresholds,
        "trial_days": version.trial_days,
        "trial_microtokens": version.trial_microtokens,
        "welcome_microtokens": version.welcome_microtokens,
        "welcome_months": version.welcome_months,
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
