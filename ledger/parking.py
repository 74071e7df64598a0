"""Runs that no rate prices yet: found again when a rate for their time has been published."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec
from django.db import transaction

from ledger import intake, sql
from ledger.errors import InvalidRuns
from ledger.intake import NewRun
from ledger.models import ParkedRun

PARKED_PER_SWEEP_MAX: Final = 1_000

_decoder: Final = msgspec.msgpack.Decoder(NewRun)


@dataclass(frozen=True, kw_only=True)
class Parked:
    """A run that waits for a rate, and why."""

    account_id: int
    run: NewRun
    reason: str
    parked_at: datetime


def waiting(*, account_ids: list[int], parked_max: int = 100) -> list[Parked]:
    """Runs of these accounts that wait for a rate, oldest first."""
    rows = ParkedRun.objects.filter(account_id__in=account_ids, priced_at__isnull=True)
    return [
        Parked(
            account_id=row.account_id,
            run=parked_run(row),
            reason=row.reason,
            parked_at=row.parked_at,
        )
        for row in rows.order_by("parked_at", "position")[:parked_max]
    ]


def parked_run(row: ParkedRun) -> NewRun:
    """The run as it came."""
    return _decoder.decode(bytes(row.body))


def price_parked(*, at: datetime) -> list[int]:
    """Send parked runs that can be priced by now to their debit; the shards that have work.

    Each takes the rates in force at its own time. Those that still have none stay parked, and
    are looked at again when their book's prices have changed; so none of them stands in the way
    of others. Looks at PARKED_PER_SWEEP_MAX runs, those first that have waited longest.
    """
    shards: set[int] = set()
    for one in sql.query(_Untried, "untried_parked", parked_max=PARKED_PER_SWEEP_MAX):
        shards.update(_price_one(one, at=at))
    return sorted(shards)


@dataclass(frozen=True, kw_only=True)
class _Untried:
    """A row of untried_parked.sql."""

    shard: int
    batch_id: uuid.UUID
    position: int
    book_id: int
    revision: int
    body: bytes


def _price_one(one: _Untried, *, at: datetime) -> list[int]:
    row = ParkedRun.objects.filter(
        shard=one.shard, batch_id=one.batch_id, position=one.position, priced_at__isnull=True
    )
    try:
        with transaction.atomic():
            accepted = intake.accept(book_id=one.book_id, runs=[_decoder.decode(one.body)], at=at)
            if accepted.runs[0].microtokens is not None:
                row.update(priced_at=at)
                return accepted.shards
            transaction.set_rollback(True)
    except InvalidRuns:
        # An engine or meter was taken away since: the run waits until it is back.
        pass
    # The revision that was read before trying: a change in between is tried again.
    row.update(tried_revision=one.revision)
    return []
