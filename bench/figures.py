"""What a figure is, how it is shown, and what stands in bench/latest.json."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

LATEST = Path(__file__).parent / "latest.json"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A value and its bar: a share of the limit measured beside it, or a value of its own.

    `bar` is a ratio, `least` and `most` are in the value's unit.
    """

    name: str
    value: float
    unit: str
    limit: float | None = None
    limit_name: str = ""
    bar: float | None = None
    least: float | None = None
    most: float | None = None

    @property
    def ratio(self) -> float | None:
        return None if self.limit is None else self.value / self.limit

    @property
    def holds(self) -> bool:
        return (
            (self.bar is None or (self.ratio is not None and self.ratio >= self.bar))
            and (self.least is None or self.value >= self.least)
            and (self.most is None or self.value <= self.most)
        )

    @property
    def bar_text(self) -> str:
        """What must be reached, in words; empty if nothing."""
        bars = (
            ("ratio ≥", self.bar, ".2f"),
            ("value ≥", self.least, ",.0f"),
            ("value ≤", self.most, ",.0f"),
        )
        return ", ".join(f"{words} {bar:{how}}" for words, bar, how in bars if bar is not None)


def middle(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Of pairs that were measured one beside the other, the one with the median ratio: what the
    machine does meanwhile slows both of a pair, but not all pairs alike."""
    return sorted(pairs, key=lambda pair: pair[0] / pair[1])[len(pairs) // 2]


def show(figures: Sequence[Figure]) -> None:
    table = Table(title="Figures", caption="a ratio is the value's share of the limit beside it")
    for column in ("figure", "value", "unit", "limit", "ratio", "bar", "holds"):
        is_number = column in ("value", "limit", "ratio", "bar")
        table.add_column(column, justify="right" if is_number else "left")
    for one in figures:
        table.add_row(
            one.name,
            f"{one.value:,.0f}",
            one.unit,
            "" if one.limit is None else f"{one.limit:,.0f} ({one.limit_name})",
            "" if one.ratio is None else f"{one.ratio:.2f}",
            one.bar_text,
            ("yes" if one.holds else "NO") if one.bar_text else "",
        )
    Console().print(table)


def write(figures: Sequence[Figure]) -> None:
    LATEST.write_text(json.dumps({"rows": [_row(one) for one in figures]}, indent=2) + "\n")


def _row(one: Figure) -> dict[str, Any]:
    return {
        "name": one.name,
        "value": round(one.value),
        "unit": one.unit,
        "limit": None if one.limit is None else round(one.limit),
        "ratio": None if one.ratio is None else round(one.ratio, 3),
        "bar": one.bar_text or None,
        "holds": one.holds,
    }
