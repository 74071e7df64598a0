"""Accept runs, durably.

Accepting checks and prices every run (ledger.checking), bundles them by shard (ledger.bundling),
then writes, in one transaction: the batch; for each shard it touches the runs' details (kept) and
the same runs packed for the debit (deleted by it); who they are for; and the runs that no rate
prices yet, parked. That commit is the acknowledgement. The caller then says "these shards have
work" to whoever drains them; if that message is lost, a sweep finds the rows.

Either all runs of a submission are taken or none: InvalidRuns names every field that broke a rule.
"""

import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import numpy as np
import structlog
from django.db import transaction

from ledger import familiar, prices, reported, sql
from ledger.accounts import AccountFacts
from ledger.bundling import Bundle, Bundling
from ledger.checking import FAULTS_MAX, Checked
from ledger.errors import Fault, InvalidRuns
from ledger.familiar import Familiar
from ledger.faults import bounds_us
from ledger.instants import to_us
from ledger.models import ParkedRun
from ledger.packing import PackedArray, bigints, uuids
from ledger.prices import BookPrices
from ledger.reported import (
    Attribution,
    NewInference,
    NewPart,
    NewRun,
    attribution_key,
    body_digest,
)
from ledger.units import run_key

__all__ = [
    "FAULTS_MAX",
    "RUNS_PER_BATCH_MAX",
    "Accepted",
    "AcceptedRun",
    "Attribution",
    "NewInference",
    "NewPart",
    "NewRun",
    "Submitted",
    "accept",
    "accept_each",
    "attribution_key",
    "body_digest",
    "check",
]

RUNS_PER_BATCH_MAX: Final = 10_000
REASONS_LOGGED_MAX: Final = 10

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class AcceptedRun:
    """One run of an accepted batch. `microtokens` is None while no rate prices it."""

    id: str
    account: str
    microtokens: int | None
    unpriced_reason: str | None


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """Runs that somebody sends to a book, to be taken together or not at all."""

    book_id: int
    runs: Sequence[NewRun]


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """A batch that will be debited, whatever happens to this process now.

    `intakes` are the ids of what waits for the debit, by shard. `costs` are the microtokens of the
    runs that were sent, in their order: None while no rate prices one, and `unpriced` says why of
    one of those after the other.
    """

    batch_id: uuid.UUID
    intakes: Mapping[int, int]
    sent: Sequence[NewRun]
    costs: Sequence[int | None]
    unpriced: Sequence[str]

    @property
    def shards(self) -> list[int]:
        return list(self.intakes)

    @property
    def runs(self) -> list[AcceptedRun]:
        reasons = iter(self.unpriced)
        return [
            AcceptedRun(run.id, run.account, cost, next(reasons) if cost is None else None)
            for run, cost in zip(self.sent, self.costs, strict=True)
        ]


def accept(*, book_id: int, runs: Sequence[NewRun], at: datetime) -> Accepted:
    """Take 1 to RUNS_PER_BATCH_MAX runs of a book's accounts. Joins the caller's transaction.

    Raises InvalidRuns; nothing has been written then.
    """
    [taken] = accept_each(submissions=[Submitted(book_id=book_id, runs=runs)], at=at)
    if isinstance(taken, InvalidRuns):
        raise taken
    return taken


def accept_each(
    *,
    submissions: Sequence[Submitted],
    revisions: Mapping[int, int] | None = None,
    at: datetime,
) -> list[Accepted | InvalidRuns]:
    """Take several submissions, each for itself: one that is faulty does not keep out the others.

    `revisions` are the books', for who has read them in this transaction: the caller's.
    """
    if revisions is None:
        revisions = prices.revisions({one.book_id for one in submissions})
    checked = _check_each(submissions, prices.of_revisions(revisions), at=at)
    good = [one for one in checked if isinstance(one, _Batch)]
    if good:
        # Nothing is to be saved of it if it fails: no savepoint within the caller's transaction.
        with transaction.atomic(savepoint=False):
            _write(good, at=at)
    return [one.accepted() if isinstance(one, _Batch) else one for one in checked]


def check(*, book_id: int, runs: Sequence[NewRun], at: datetime) -> list[AcceptedRun]:
    """What `accept` would answer. Writes nothing. Raises InvalidRuns."""
    submission = Submitted(book_id=book_id, runs=runs)
    [checked] = _check_each([submission], prices.of_books([book_id]), at=at)
    if isinstance(checked, InvalidRuns):
        raise checked
    return checked.accepted().runs


def _check_each(
    submissions: Sequence[Submitted], books_prices: Mapping[int, BookPrices], *, at: datetime
) -> list["_Batch | InvalidRuns"]:
    of_book: dict[int, list[NewRun]] = defaultdict(list)
    for one in submissions:
        of_book[one.book_id] += one.runs
    books = {
        book_id: _Book.read(book_id, books_prices[book_id], runs, to_us(at))
        for book_id, runs in of_book.items()
    }
    return [_check_one(books[one.book_id], one) for one in submissions]


@dataclass(frozen=True, kw_only=True)
class _Book:
    """What is known of a book when its runs are checked."""

    prices: BookPrices
    familiar: Familiar
    accounts: Mapping[str, AccountFacts]
    bounds_us: tuple[int, int]

    @classmethod
    def read(cls, book_id: int, book: BookPrices, runs: Sequence[NewRun], at_us: int) -> "_Book":
        known = familiar.of_book(book_id=book_id, revision=book.revision)
        codes = {run.account for run in runs}
        accounts = familiar.accounts_of(known, book_id=book_id, codes=codes)
        return cls(prices=book, familiar=known, accounts=accounts, bounds_us=bounds_us(at_us))


def _check_one(book: _Book, submitted: Submitted) -> "_Batch | InvalidRuns":
    runs = submitted.runs
    if not 1 <= len(runs) <= RUNS_PER_BATCH_MAX:
        message = f"must have 1 to {RUNS_PER_BATCH_MAX:,} runs, not {len(runs):,}"
        return InvalidRuns(faults=[Fault(field="runs", rule="runs_count", message=message)])
    checked = Checked(book.prices, book.familiar, book.accounts, *book.bounds_us)
    bundling = Bundling()
    try:
        for some in checked.add_all(runs):
            bundling.add(some)
    except InvalidRuns as refused:
        return refused
    return _Batch(submitted, checked, bundling.bundles())


@dataclass(frozen=True, slots=True)
class _Batch:
    """A submission that is taken."""

    submitted: Submitted
    checked: Checked
    bundles: Sequence[Bundle]
    id: uuid.UUID = field(default_factory=uuid.uuid4)
    intakes: dict[int, int] = field(default_factory=dict)

    @property
    def shards(self) -> bytes:
        """Where its runs go, a byte for each."""
        return bytes(
            sorted({one.shard for one in self.bundles} | {one.shard for one in self.checked.parked})
        )

    def accepted(self) -> Accepted:
        return Accepted(
            batch_id=self.id,
            intakes=self.intakes,
            sent=self.submitted.runs,
            costs=self.checked.costs,
            unpriced=[one.reason for one in self.checked.parked],
        )


def _write(batches: Sequence[_Batch], *, at: datetime) -> None:
    _write_attributions(batches)
    parts = [(place, one) for place, batch in enumerate(batches) for one in batch.bundles]
    ids = sql.binary(
        "take_in",
        received_at=at,
        batch_ids=uuids(np.frombuffer(b"".join(batch.id.bytes for batch in batches), "V16")),
        book_ids=_bigints(batch.submitted.book_id for batch in batches),
        batch_runs_counts=_bigints(len(batch.submitted.runs) for batch in batches),
        **_end_to_end("shards", [batch.shards for batch in batches]),
        part_batches=_bigints(place + 1 for place, _ in parts),
        part_shards=_bigints(one.shard for _, one in parts),
        part_runs_counts=_bigints(one.runs_count for _, one in parts),
        **_end_to_end("details", [one.details for _, one in parts]),
        **_end_to_end("runs", [one.runs for _, one in parts]),
    )
    for (place, one), (intake_id,) in zip(parts, ids, strict=True):
        batches[place].intakes[one.shard] = intake_id
    for batch in batches:
        if batch.checked.parked:
            _write_parked(batch, at=at)


def _end_to_end(name: str, parts: Sequence[bytes]) -> dict[str, object]:
    """Bytes as parameters: all in one, and where each begins. An array of them costs far more."""
    sizes = np.fromiter(map(len, parts), np.int64, len(parts))
    return {
        name: b"".join(parts),
        f"{name}_begins": bigints(np.cumsum(sizes) - sizes + 1),
        f"{name}_sizes": bigints(sizes),
    }


def _bigints(values: Iterable[int]) -> PackedArray:
    return bigints(np.fromiter(values, np.int64))


def _write_attributions(batches: Sequence[_Batch]) -> None:
    with_new = [batch.checked for batch in batches if batch.checked.new_bearers]
    new = [bearer for checked in with_new for bearer in checked.new_bearers.values()]
    if not new:
        return
    columns = list(zip(*(bearer.attribution for bearer in new), strict=True))
    sql.binary(
        "attribute",
        account_ids=[bearer.account_id for bearer in new],
        keys=[uuid.UUID(bytes=bearer.attribution_key) for bearer in new],
        workflows=list(columns[0]),
        projects=list(columns[1]),
        jobs=list(columns[2]),
        cost_centres=list(columns[3]),
        departments=list(columns[4]),
        actors=list(columns[5]),
    )
    transaction.on_commit(lambda: _remember(with_new))


def _remember(written: Sequence[Checked]) -> None:
    for checked in written:
        familiar.remember_bearers(checked.familiar, checked.new_bearers)


def _write_parked(batch: _Batch, *, at: datetime) -> None:
    ParkedRun.objects.bulk_create(
        ParkedRun(
            shard=parked.shard,
            batch_id=batch.id,
            position=parked.position,
            account_id=parked.account_id,
            run_key=run_key(parked.run.id),
            occurred_at=parked.run.occurred_at,
            parked_at=at,
            reason=parked.reason[:300],
            body=reported.body(parked.run),
            body_digest=body_digest(parked.run),
        )
        for parked in batch.checked.parked
    )
    transaction.on_commit(lambda: _log_parked(batch))


def _log_parked(batch: _Batch) -> None:
    reasons = Counter(parked.reason for parked in batch.checked.parked)
    _log.warning(
        "runs wait for a price",
        book_id=batch.submitted.book_id,
        batch_id=str(batch.id),
        runs_count=reasons.total(),
        reasons=dict(reasons.most_common(REASONS_LOGGED_MAX)),
    )
