"""Sweeps: whatever waits in the database is done item by item, and no item stands in another's way.

An item that cannot be done, for whatever reason, is written to the log with its id and left to the
next sweep; the others are done. It does not use up the sweep's limit either, so that a thousand
items which fail for ever starve nobody behind them.
"""

import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, Final, TypeVar, cast

import structlog
from django.db import connection

Item = TypeVar("Item")
Result = TypeVar("Result")

# A lease is counted from the sweep's start: this share of it may be over when the last item begins.
SHARE_OF_LEASE: Final = 4

logger = structlog.get_logger(__name__)


def each(
    items: Iterable[Item],
    do: Callable[[Item], int],
    *,
    what: str,
    items_max: int,
    lasts_max: timedelta | None = None,
    otherwise: Callable[[Item, Exception], int] = lambda item, error: 0,
) -> int:
    """Do the items in their order; the sum of what doing them returned.

    No item is begun after `items_max` were done, or when the sweep has lasted `lasts_max`.
    """
    failed: list[Item] = []

    def note(item: Item, error: Exception) -> int:
        failed.append(item)
        return otherwise(item, error)

    began = time.monotonic()
    total = 0
    for number, item in enumerate(items):
        if number - len(failed) >= items_max or is_over(began, lasts_max):
            break
        total += attempt(item, do, what=what, otherwise=note)
    return total


def attempt(
    item: Item,
    do: Callable[[Item], Result],
    *,
    what: str,
    otherwise: Callable[[Item, Exception], Result],
    ends_all: tuple[type[Exception], ...] = (),
) -> Result:
    """Do one item; if it fails, what `otherwise` makes of that.

    Without a database it raises, and so it does for the errors of `ends_all`.
    """
    try:
        return do(item)
    except ends_all:
        raise
    except Exception as error:  # whatever is wrong with one item, the others go on
        if _database_is_gone():
            raise
        logger.exception(f"{what}: one failed, the others go on", item=str(item))
        return otherwise(item, error)


def is_over(began: float, lasts_max: timedelta | None) -> bool:
    """Whether a sweep that began then (time.monotonic) should begin nothing more."""
    return lasts_max is not None and time.monotonic() - began > lasts_max.total_seconds()


def _database_is_gone() -> bool:
    """Nothing can be done then: each item would only fail in its turn."""
    session = cast(Any, connection).connection
    return session is None or bool(session.closed)
