"""Rows that break rules: of each rule the first few, in order."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Final

Row = tuple[object, ...]


class BrokenRows:
    """Collects them, however many there are, in little space."""

    ROWS_MAX: Final = 10

    def __init__(self) -> None:
        self._rows: dict[str, list[Row]] = defaultdict(list)

    def add(self, rule: str, row: Row) -> None:
        rows = self._rows[rule]
        rows.append(row)
        if len(rows) >= 100 * self.ROWS_MAX:
            self._rows[rule] = self._first(rows)

    def of(self, rules: Iterable[str]) -> dict[str, list[Row]]:
        return {rule: self._first(self._rows[rule]) for rule in rules if self._rows.get(rule)}

    def _first(self, rows: list[Row]) -> list[Row]:
        # Of one rule the first columns are alike in kind.
        return sorted(rows, key=_order)[: self.ROWS_MAX]


def _order(row: Row) -> tuple[tuple[int, str], ...]:
    """Numbers in their order, anything else by its text."""
    return tuple((value, "") if isinstance(value, int) else (0, str(value)) for value in row)
