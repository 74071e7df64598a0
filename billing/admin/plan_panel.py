"""What stands beside the form of a plan's version: the plan in plain sentences, as typed so far."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from billing import catalog, explain
from billing.models import PlanVersion
from ledger import catalog as ledger_catalog
from ledger.value import Tier


@dataclass(frozen=True, kw_only=True)
class Panel:
    """`missing` says what keeps the plan from being explained or published."""

    sentences: Sequence[str] = ()
    example: Sequence[str] = ()
    missing: Sequence[str] = ()


def panel_of_version(version: PlanVersion) -> Panel:
    """Of a version as it is saved."""
    tiers = catalog.tiers(version=version)
    missing = [fault.message for fault in catalog.faults(version=version, tiers=tiers)]
    return _panel(version, tiers, missing=[] if version.published_at else missing)


def panel_of_draft(*, form: Any, tiers_formset: Any) -> Panel:
    """Of what is typed in the form, saved or not."""
    valid = form.is_valid()
    if not (tiers_formset.is_valid() and valid):
        return Panel(missing=[*_missing_in(form), *_missing_in_tiers(tiers_formset)])
    return _panel(form.instance, tiers_formset.tiers(), missing=())


def _panel(version: PlanVersion, tiers: Sequence[Tier], *, missing: Sequence[str]) -> Panel:
    if missing:
        return Panel(missing=[f"{text[0].upper()}{text[1:]}." for text in missing])
    unit = ledger_catalog.unit(unit_id=version.unit_id)
    explained = explain.explain(version=version, tiers=tiers, unit=unit)
    return Panel(sentences=explained.sentences, example=explained.example)


def _missing_in(form: Any) -> list[str]:
    lines = []
    for name, errors in form.errors.items():
        label = form[name].label if name in form.fields else None
        for error in errors:
            lines.append(f"{_capitalized(label)}: {error}" if label else str(error))
    return lines


def _missing_in_tiers(tiers_formset: Any) -> list[str]:
    lines = [str(error) for error in tiers_formset.non_form_errors()]
    for number, form in enumerate(tiers_formset.forms, start=1):
        lines += [f"Overage price {number}: {line}" for line in _missing_in(form)]
    return lines


def _capitalized(label: Any) -> str:
    text = str(label or "")
    return text[:1].upper() + text[1:]
