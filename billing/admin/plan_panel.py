"""What stands beside the form of a plan's version: the plan in plain sentences, as typed so far."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from billing import explain, lint, plan_faults, terms
from billing.admin.plan_forms import FIELD_OF
from billing.admin.plan_prices import PartsFormSet, Rows
from billing.explain import Explanation
from billing.lint import Finding
from billing.models import PlanVersion
from billing.terms import Price
from ledger import catalog as ledger_catalog


@dataclass(frozen=True, kw_only=True)
class Panel:
    """`missing` says what keeps the plan from being explained."""

    explained: Sequence[tuple[str, Explanation]] = ()  # in each currency
    missing: Sequence[str] = ()
    errors: Sequence["Told"] = ()
    warnings: Sequence["Told"] = ()

    @property
    def stops(self) -> bool:
        """Whether it can't be published as it is."""
        return bool(self.missing or self.errors)


@dataclass(frozen=True, kw_only=True)
class Told:
    """A finding of the lint, with where it is mended: a label, and a place on the form's page."""

    code: str
    label: str
    anchor: str
    sentence: str


def panel_of_version(version: PlanVersion, *, at: datetime) -> Panel:
    """Of a version as it is saved."""
    prices = terms.prices(version=version)
    missing = [fault.message for fault in plan_faults.found(version=version, prices=prices)]
    return _panel(version, prices, missing=[] if version.published_at else missing, at=at)


def panel_of_draft(*, form: Any, formsets: Sequence[PartsFormSet], at: datetime) -> Panel:
    """Of what is typed in the form, saved or not."""
    valid = [part.is_valid() for part in (form, *formsets)]
    if not all(valid):
        return Panel(missing=[*_missing_in(form), *_missing_in_rows(formsets)])
    return _panel(form.instance, Rows.of(formsets).typed(), missing=(), at=at)


def _panel(
    version: PlanVersion, prices: Sequence[Price], *, missing: Sequence[str], at: datetime
) -> Panel:
    if missing:
        return Panel(missing=[f"{text[0].upper()}{text[1:]}." for text in missing])
    unit = ledger_catalog.unit(unit_id=version.unit_id)
    explained = []
    for price in prices:
        billed_by = terms.put_together(version=version, price=price)
        explained.append((price.currency, explain.explain(terms=billed_by, unit=unit)))
    found = []
    if version.published_at is None:
        found = lint.of_version(version=version, prices=prices, at=at)
    return Panel(
        explained=explained,
        errors=[_told(one) for one in lint.errors_of(found)],
        warnings=[_told(one) for one in lint.warnings_of(found)],
    )


def _told(finding: Finding) -> Told:
    label, anchor = _place(finding.field)
    return Told(code=finding.code, label=label, anchor=anchor, sentence=finding.sentence)


def _place(field: str) -> tuple[str, str]:
    """What a field of the lint is called on the form's page, and where it stands."""
    if not field.startswith("prices."):
        name = FIELD_OF.get(field, field)
        return _capitalized(name.removesuffix("_id").replace("_", " ")), f"id_{name}"
    _, currency, *names = field.split(".")
    rows = {"overage_tiers": "tiers", "sizes": "sizes"}.get(names[0], "prices")
    words = "overage prices" if rows == "tiers" else names[-1].replace("_", " ")
    return f"{_capitalized(words)}, {currency}", f"{rows}-group"


def _missing_in(form: Any) -> list[str]:
    lines = []
    for name, errors in form.errors.items():
        label = form[name].label if name in form.fields else None
        for error in errors:
            lines.append(f"{_capitalized(label)}: {error}" if label else str(error))
    return lines


def _missing_in_rows(formsets: Sequence[PartsFormSet]) -> list[str]:
    lines = []
    for formset in formsets:
        lines += [str(error) for error in formset.non_form_errors()]
        for number, form in enumerate(formset.forms, start=1):
            assert formset.model is not None
            what = f"{_capitalized(formset.model._meta.verbose_name)} {number}"
            lines += [f"{what}: {line}" for line in _missing_in(form)]
    return lines


def _capitalized(label: Any) -> str:
    text = str(label or "")
    return text[:1].upper() + text[1:]
