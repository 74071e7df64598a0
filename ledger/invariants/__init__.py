"""What must always hold, each a query for the rows that break it.

A single row's rules are constraints of the database. What rows say of each other stands here,
and is asserted after every test that touched the ledger, by `manage.py check_ledger`, and
whenever an operator wants to know.

A module for each subject: INVARIANTS are queries, CHECKS are functions, for what SQL can't read.
The rules that look at every run and every movement are looked after in one walk over them.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from django.db import connection, transaction

from ledger import sql
from ledger.invariants import (
    corrections,
    details,
    holds,
    lots,
    receipts,
    reversals,
    runs,
    usage,
    walk,
)
from ledger.invariants.details import NOTHING_LOST
from ledger.invariants.rows import BrokenRows, Row

__all__ = [
    "BROKEN_ROWS_MAX",
    "CHECKS",
    "INVARIANTS",
    "NAMES",
    "NOTHING_LOST",
    "STEPS",
    "violations",
]

INVARIANTS: Final[dict[str, str]] = (
    lots.INVARIANTS
    | runs.INVARIANTS
    | receipts.INVARIANTS
    | usage.INVARIANTS
    | corrections.INVARIANTS
    | reversals.INVARIANTS
    | holds.INVARIANTS
)
CHECKS: Final[dict[str, Callable[[], list[Row]]]] = details.CHECKS | receipts.CHECKS | usage.CHECKS
NAMES: Final = (*walk.NAMES, *INVARIANTS, *CHECKS)
BROKEN_ROWS_MAX: Final = BrokenRows.ROWS_MAX

# What is looked at now, and how many of the STEPS are done with it.
Progress = Callable[[str, int], None]
_WALK_STEPS: Final = 100
STEPS: Final = _WALK_STEPS + len(INVARIANTS) + len(CHECKS)


def violations(
    *, progress: Progress = lambda name, steps: None, two_at_once: bool = False
) -> dict[str, list[Row]]:
    """Every invariant that does not hold, with at most BROKEN_ROWS_MAX rows that break it.

    With `two_at_once` the walk and the queries do not wait for each other. The queries then go
    over a connection of their own, so they see only what is committed.
    """
    if not two_at_once:
        return _of_walk(progress) | _of_queries(progress)
    with ThreadPoolExecutor(1) as other:
        queried = other.submit(_on_own_connection, progress)
        return _of_walk(progress, two_at_once=True) | queried.result()


def _of_walk(progress: Progress, *, two_at_once: bool = False) -> dict[str, list[Row]]:
    told = 0

    def tell(share: float) -> None:
        nonlocal told
        steps = int(share * _WALK_STEPS)
        progress("every run and movement", steps - told)
        told = steps

    return walk.broken(progress=tell, two_at_once=two_at_once)


def _of_queries(progress: Progress) -> dict[str, list[Row]]:
    """All of one state: some rules ask more than once, and blocks may be folded meanwhile."""
    broken: dict[str, list[Row]] = {}
    with transaction.atomic():
        sql.see_one_state()
        for name, statement in INVARIANTS.items():
            with connection.cursor() as cursor:
                cursor.execute(f"{statement} LIMIT {BROKEN_ROWS_MAX}")
                if rows := cursor.fetchall():
                    broken[name] = rows
            progress(name, 1)
        for name, check in CHECKS.items():
            if rows := check():
                broken[name] = rows
            progress(name, 1)
    return broken


def _on_own_connection(progress: Progress) -> dict[str, list[Row]]:
    # Django gives each thread its own; nobody else would close this one.
    try:
        return _of_queries(progress)
    finally:
        connection.close()
