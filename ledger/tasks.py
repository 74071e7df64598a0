"""Celery's way in. A task reads the clock and calls one operation.

Work is found in the database, not in the message: a message only says "look now". One that is
lost costs a sweep's interval, and one that comes twice costs nothing.
"""

from collections.abc import Sequence
from typing import Final

import kombu.exceptions
import structlog
from celery import shared_task
from django.utils import timezone

from ledger import debiting, folding, grants, heads, holds, parking, parts, retakes, sql

SHARDS_PER_MESSAGE: Final = 64

_log = structlog.get_logger(__name__)


def wake(shards: Sequence[int]) -> None:
    """Say that these shards have work. A broker that is away costs the sweep's interval."""
    for begin in range(0, len(shards), SHARDS_PER_MESSAGE):
        try:
            debit_shards.delay(list(shards[begin : begin + SHARDS_PER_MESSAGE]))
        except kombu.exceptions.OperationalError as error:
            _log.warning("broker away: the sweep will debit", error=str(error))
            return


@shared_task
def debit_shards(shards: list[int]) -> None:
    """Sent by whoever has accepted runs. What comes in meanwhile has a message of its own.

    Of shards in which nothing waits, another message was there first. A shard that fails keeps none
    of the others from being debited.
    """
    failed: Exception | None = None
    for shard, _ in sql.rows("oldest_waiting", shards=list(shards)):
        try:
            while debiting.drain_block(shard=shard, at=timezone.now()).is_full:
                pass
        except Exception as error:  # noqa: BLE001  raised when the others are done
            _log.exception("a shard could not be debited", shard=shard)
            failed = error
    if failed is not None:
        raise failed


@shared_task
def sweep_intake() -> None:
    """Debit whatever waits, wherever its message went."""
    wake(debiting.waiting_shards())


@shared_task
def close_lots() -> None:
    """Roll over and expire what is left in lots whose grace is over."""
    while grants.expire_due(at=timezone.now()):
        pass


@shared_task
def sweep_holds() -> None:
    """Take holds whose time has come out of what debits look through."""
    while holds.sweep(at=timezone.now()):
        pass


@shared_task
def price_parked_runs() -> None:
    """Debit parked runs for which a rate has been published since."""
    wake(parking.price_parked(at=timezone.now()))


@shared_task
def end_quiet_runs() -> None:
    """Issue the receipts of runs in parts of which nothing comes any more."""
    while parts.end_quiet(at=timezone.now()):
        pass


@shared_task
def mark_retaken_runs() -> None:
    """Mark runs that came after the runs which do them again."""
    while retakes.mark_waiting(at=timezone.now()):
        pass


@shared_task
def publish_heads() -> None:
    """Write down the last block of every shard, for all to see."""
    heads.publish(at=timezone.now())


@shared_task
def fold_usage() -> None:
    """Add what blocks say of usage to its rows; until then whoever reads adds it."""
    folding.fold_due(at=timezone.now())
