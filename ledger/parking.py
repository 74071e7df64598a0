"""Runs that no rate prices yet: found again when a rate for their time has been published."""

import uuid
from collections.abc import Sequence
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
class Wait:
    """How many runs wait for a price for one reason, and since when. They are not debited yet."""

    book_id: int
    account_id: int | None  # None where nobody asked by account
    rate_card_id: int
    rate_card: str
    reason: str
    runs_count: int
    since: datetime
    earliest_at: datetime  # when the first of them occurred

    @property
    def remedy(self) -> str:
        """What somebody can do."""
        return (
            f"Publish a version of rate card {self.rate_card!r} that prices them, in force from"
            f" {self.earliest_at:%Y-%m-%d %H:%M} UTC or before: a minute later they are debited,"
            " each at its own time."
        )


@dataclass(frozen=True, kw_only=True)
class Parked:
    """A run that waits for a rate, and why."""

    account_id: int
    run: NewRun
    reason: str
    parked_at: datetime


def waits(*, book_ids: Sequence[int] | None = None) -> list[Wait]:
    """Why runs of these books (None: of all) wait for a price, the longest wait first."""
    books = None if book_ids is None else list(book_ids)
    return sql.query(Wait, "parked_waits", book_ids=books, account_ids=None)


def waits_of_accounts(*, account_ids: Sequence[int]) -> dict[int, list[Wait]]:
    """Why runs of these accounts wait for a price; accounts of which none does are left out."""
    found: dict[int, list[Wait]] = {}
    for wait in sql.query(Wait, "parked_waits", book_ids=None, account_ids=list(account_ids)):
        assert wait.account_id is not None
        found.setdefault(wait.account_id, []).append(wait)
    return found


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
            [run] = accepted.runs
            if run.microtokens is not None:
                row.update(priced_at=at)
                return accepted.shards
            transaction.set_rollback(True)
        reason = run.unpriced_reason or ""
    except InvalidRuns as refused:
        # An engine or meter was taken away since: the run waits until it is back.
        reason = str(refused)
    # The revision that was read before trying: a change in between is tried again.
    row.update(tried_revision=one.revision, reason=reason[:300])
    return []
