"""What must always hold, each a query for the rows that break it.

A single row's rules are constraints of the database. What rows say of each other stands here,
and is asserted after every test that touched the ledger, by `manage.py check_ledger`, and
whenever an operator wants to know.

A module for each subject: INVARIANTS are queries, CHECKS are functions, for what SQL can't read.
"""

from collections.abc import Callable
from typing import Final

from django.db import connection

from ledger.invariants import details, lots, receipts, runs
from ledger.invariants.details import BROKEN_ROWS_MAX, DETAILS, NOTHING_LOST, Row

__all__ = [
    "BROKEN_ROWS_MAX",
    "CHECKS",
    "DETAILS",
    "INVARIANTS",
    "NAMES",
    "NOTHING_LOST",
    "violations",
]

INVARIANTS: Final[dict[str, str]] = lots.INVARIANTS | runs.INVARIANTS | receipts.INVARIANTS
CHECKS: Final[dict[str, Callable[[], list[Row]]]] = details.CHECKS
NAMES: Final = (*INVARIANTS, *CHECKS)

Progress = Callable[[str], None]


def violations(*, progress: Progress = lambda name: None) -> dict[str, list[Row]]:
    """Every invariant that does not hold, with at most BROKEN_ROWS_MAX rows that break it."""
    broken: dict[str, list[Row]] = {}
    for name, statement in INVARIANTS.items():
        progress(name)
        with connection.cursor() as cursor:
            cursor.execute(f"{statement} LIMIT {BROKEN_ROWS_MAX}")
            if rows := cursor.fetchall():
                broken[name] = rows
    for name, check in CHECKS.items():
        progress(name)
        if rows := check():
            broken[name] = rows
    return broken
