"""Accept runs, durably.

Accepting checks and prices every run, then writes, in one transaction: the batch; for each shard
it touches the runs' details (kept) and the same runs packed for the debit (deleted by it); who
they are for; and the runs that no rate prices yet, parked. That commit is the acknowledgement.
The caller then says "these shards have work" to whoever drains them; if that message is lost, a
sweep finds the rows.

Either all runs of a submission are taken or none: InvalidRuns names every field that broke a rule.
"""

import hashlib
import uuid
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Final, Literal

import msgspec
from django.db import transaction

from ledger import packing, prices, sql
from ledger.accounts import AccountFacts, find_all
from ledger.errors import Fault, InvalidRuns
from ledger.instants import to_us
from ledger.models import Batch, ParkedRun
from ledger.packing import (
    FAILED,
    LAST_PART,
    NOT_CHARGED,
    RETAKE,
    InferenceDetails,
    RunDetails,
    Unusual,
    details_digest,
    encode_details,
    pack_run,
)
from ledger.rating import Priced, RateCard, Unpriced, Usage, price
from ledger.units import QUANTITY_MAX, RUN_MICROTOKENS_MAX, part_key, run_key

RUNS_PER_BATCH_MAX: Final = 10_000
INFERENCES_PER_RUN_MAX: Final = 1_000
FAULTS_MAX: Final = 20
RUN_AGE_MAX: Final = timedelta(days=3653)
CLOCK_DIFFERENCE_MAX: Final = timedelta(minutes=5)
ATTRIBUTIONS_REMEMBERED_MAX: Final = 100_000

Name = Annotated[str, msgspec.Meta(max_length=100)]
RequiredName = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
Instant = Annotated[datetime, msgspec.Meta(tz=True)]
Quantity = Annotated[int, msgspec.Meta(ge=0, le=QUANTITY_MAX)]


class NewInference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One submission to an engine. Without a time of its own it takes its run's."""

    engine: RequiredName
    quantities: Annotated[dict[RequiredName, Quantity], msgspec.Meta(min_length=1, max_length=50)]
    occurred_at: Instant | None = None


class NewPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which part of its run this is. `last` says that the run has ended with it."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    last: bool = False


class NewRun(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One execution of a workflow, complete or a part of it, as its vendor reports it.

    A run that failed says whose fault it was: the vendor's fault costs nothing, the customer's
    (who cancelled, say) what was used. A retake says which run it does again.
    """

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    account: RequiredName
    workflow: RequiredName
    occurred_at: Instant
    inferences: Annotated[
        list[NewInference], msgspec.Meta(min_length=1, max_length=INFERENCES_PER_RUN_MAX)
    ]
    project: Name = ""
    job: Name = ""
    cost_centre: Name = ""
    department: Name = ""
    actor: Name = ""
    outcome: Literal["accepted", "failed"] = "accepted"
    fault: Literal["", "vendor", "customer"] = ""
    retake_of: Annotated[str, msgspec.Meta(max_length=200)] = ""
    part: NewPart | None = None


@dataclass(frozen=True, slots=True)
class AcceptedRun:
    """One run of an accepted batch. `microtokens` is None while no rate prices it."""

    id: str
    account: str
    microtokens: int | None
    unpriced_reason: str | None


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """A batch that will be debited, whatever happens to this process now."""

    batch_id: uuid.UUID
    shards: list[int]
    runs: list[AcceptedRun]


def accept(*, book_id: int, runs: Sequence[NewRun], at: datetime) -> Accepted:
    """Take 1 to RUNS_PER_BATCH_MAX runs of a book's accounts. Joins the caller's transaction.

    Raises InvalidRuns; nothing has been written then.
    """
    batch = _checked(book_id=book_id, runs=runs, at=at)
    with transaction.atomic():
        return _write(batch, book_id=book_id, at=at)


def check(*, book_id: int, runs: Sequence[NewRun], at: datetime) -> list[AcceptedRun]:
    """What `accept` would answer. Writes nothing. Raises InvalidRuns."""
    return _checked(book_id=book_id, runs=runs, at=at).accepted


@dataclass(slots=True)
class _Shard:
    """The part of a batch that goes to one shard."""

    packed: list[bytes] = field(default_factory=list)
    details: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Parked:
    position: int
    account: AccountFacts
    run: NewRun
    key: uuid.UUID
    digest: int
    reason: str


Attribution = tuple[str, str, str, str, str, str]


@dataclass(slots=True)
class _Batch:
    """A submission while it is being checked and priced."""

    book: prices.BookPrices
    accounts: dict[str, AccountFacts]
    at_us: int
    faults: list[Fault] = field(default_factory=list)
    accepted: list[AcceptedRun] = field(default_factory=list)
    shards: dict[int, _Shard] = field(default_factory=lambda: defaultdict(_Shard))
    parked: list[_Parked] = field(default_factory=list)
    attributions: dict[tuple[int, bytes], Attribution] = field(default_factory=dict)

    def add(self, position: int, run: NewRun) -> None:
        """Check and price one run."""
        account = self.accounts.get(run.account)
        cost_centre = self._cost_centre(run, account)
        usages = [
            Usage(
                inference.engine,
                to_us(run.occurred_at if inference.occurred_at is None else inference.occurred_at),
                inference.quantities,
            )
            for inference in run.inferences
        ]
        occurred_at_us = to_us(run.occurred_at)
        if not self._is_valid(position, run, account, cost_centre, occurred_at_us, usages):
            return
        assert account is not None
        card = self.book.rate_cards.get(account.rate_card_id, _NO_CARD)
        priced = price(card, run.workflow, usages)
        if isinstance(priced, Unpriced):
            self._park(account, run, priced.reason)
        elif priced.microtokens > RUN_MICROTOKENS_MAX:
            self._fault(position, "", "cost_too_large", "costs more than 100,000,000 tokens")
        else:
            self._take(account, run, cost_centre, occurred_at_us, usages, priced)

    def _cost_centre(self, run: NewRun, account: AccountFacts | None) -> str:
        """The run's own, else its workflow's, else its account's."""
        return (
            run.cost_centre
            or self.book.default_cost_centres.get(run.workflow, "")
            or ("" if account is None else account.default_cost_centre)
        )

    def _is_valid(
        self,
        position: int,
        run: NewRun,
        account: AccountFacts | None,
        cost_centre: str,
        occurred_at_us: int,
        usages: Sequence[Usage],
    ) -> bool:
        before = len(self.faults)
        if account is None:
            self._fault(position, ".account", "unknown_account", "names no account of yours")
        elif not cost_centre:
            self._fault(
                position,
                ".cost_centre",
                "cost_centre_missing",
                "is missing, and neither the workflow nor the account has a default",
            )
        self._check_outcome(position, run)
        if any("\x00" in text for text in _texts(run)):
            self._fault(position, "", "text", "has a NUL character in one of its texts")
        self._check_instant(position, ".occurred_at", occurred_at_us)
        for number, usage in enumerate(usages):
            if usage.engine not in self.book.engines or not (
                self.book.meters.issuperset(usage.quantities)
            ):
                self._fault_of_names(position, number, usage)
            if usage.occurred_at_us != occurred_at_us:
                field_name = f".inferences[{number}].occurred_at"
                self._check_instant(position, field_name, usage.occurred_at_us)
            if self.book.whole_of:
                self._check_parts(position, number, usage)
        return len(self.faults) == before

    def _check_outcome(self, position: int, run: NewRun) -> None:
        if (run.outcome == "failed") != bool(run.fault):
            message = "goes with the outcome 'failed', and with no other: 'vendor' or 'customer'"
            self._fault(position, ".fault", "fault_of_failed", message)
        if run.retake_of == run.id:
            self._fault(position, ".retake_of", "retake_of_itself", "names the run itself")

    def _check_instant(self, position: int, field_name: str, occurred_at_us: int) -> None:
        if occurred_at_us > self.at_us + _CLOCK_DIFFERENCE_US:
            self._fault(position, field_name, "in_the_future", "is more than 5 minutes ahead of us")
        elif occurred_at_us < self.at_us - _RUN_AGE_US:
            self._fault(position, field_name, "too_old", "is more than ten years ago")

    def _fault_of_names(self, position: int, number: int, usage: Usage) -> None:
        place = f".inferences[{number}]"
        if usage.engine not in self.book.engines:
            self._fault(
                position, f"{place}.engine", "unknown_engine", f"{usage.engine!r} is not registered"
            )
        for meter in usage.quantities:
            if meter not in self.book.meters:
                self._fault(
                    position,
                    f"{place}.quantities",
                    "unknown_meter",
                    f"{meter!r} is not registered",
                )

    def _check_parts(self, position: int, number: int, usage: Usage) -> None:
        """All parts of a meter together are at most the whole."""
        used: dict[str, int] = defaultdict(int)
        for meter, quantity in usage.quantities.items():
            if meter in self.book.whole_of:
                used[self.book.whole_of[meter]] += quantity
        for whole, quantity in used.items():
            if quantity > usage.quantities.get(whole, 0):
                self._fault(
                    position,
                    f".inferences[{number}].quantities",
                    "part_exceeds_whole",
                    f"{whole!r} counts its parts too, so it can't be less than {quantity}",
                )

    def _fault(self, position: int, field_name: str, rule: str, message: str) -> None:
        if len(self.faults) < FAULTS_MAX:
            self.faults.append(
                Fault(field=f"runs[{position}]{field_name}", rule=rule, message=message)
            )

    def _park(self, account: AccountFacts, run: NewRun, reason: str) -> None:
        position = len(self.accepted)
        self.accepted.append(AcceptedRun(run.id, run.account, None, reason))
        self.parked.append(
            _Parked(position, account, run, run_key(run.id), body_digest(run), reason)
        )

    def _take(
        self,
        account: AccountFacts,
        run: NewRun,
        cost_centre: str,
        occurred_at_us: int,
        usages: Sequence[Usage],
        priced: Priced,
    ) -> None:
        attribution = (
            run.workflow, run.project, run.job, cost_centre, run.department, run.actor,
        )  # fmt: skip
        key = attribution_key(attribution)
        if (account.id, key) not in _known_attributions:
            self.attributions[(account.id, key)] = attribution
        flags = _flags(run)
        microtokens = 0 if flags & NOT_CHARGED else priced.microtokens
        engines = {usage.engine for usage in usages}
        details = encode_details(_details(account, run, usages, priced))
        shard = self.shards[account.shard]
        shard.packed.append(
            pack_run(
                account.id,
                run_key(run.id).bytes,
                0 if run.part is None else part_key(run.part.id),
                occurred_at_us,
                microtokens,
                key,
                body_digest(run),
                details_digest(details),
                self.book.engines[engines.pop()] if len(engines) == 1 else 0,
                flags,
            )
        )
        shard.details.append(details)
        self.accepted.append(AcceptedRun(run.id, run.account, microtokens, None))


_NO_CARD: Final = RateCard(versions=())
_CLOCK_DIFFERENCE_US: Final = CLOCK_DIFFERENCE_MAX // timedelta(microseconds=1)
_RUN_AGE_US: Final = RUN_AGE_MAX // timedelta(microseconds=1)
# (account id, attribution key) of rows that are committed: no need to write them again.
_known_attributions: set[tuple[int, bytes]] = set()
_canonical: Final = msgspec.msgpack.Encoder(order="deterministic")


def body_digest(run: NewRun) -> int:
    """64 bits of the run's body: the same run again has the same, another run another."""
    digest = hashlib.blake2b(_canonical.encode(run), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def _texts(run: NewRun) -> tuple[str, ...]:
    return (
        run.id, run.workflow, run.project, run.job, run.cost_centre, run.department, run.actor,
        run.retake_of, "" if run.part is None else run.part.id,
    )  # fmt: skip


def _flags(run: NewRun) -> int:
    return (
        (FAILED if run.outcome == "failed" else 0)
        | (NOT_CHARGED if run.fault == "vendor" else 0)
        | (RETAKE if run.retake_of else 0)
        | (LAST_PART if run.part is not None and run.part.last else 0)
    )


def attribution_key(attribution: Attribution) -> bytes:
    """16 bytes that stand for who a run is for: a digest of the names, as a list in JSON."""
    return hashlib.sha256(msgspec.json.encode(attribution)).digest()[:16]


def _details(
    account: AccountFacts, run: NewRun, usages: Sequence[Usage], priced: Priced
) -> RunDetails:
    return RunDetails(
        run.id,
        account.id,
        [
            InferenceDetails(
                usage.engine, usage.occurred_at_us, dict(usage.quantities), version_id, microtokens
            )
            for usage, version_id, microtokens in zip(
                usages, priced.version_ids, priced.inference_microtokens, strict=True
            )
        ],
        _unusual(run),
    )


def _unusual(run: NewRun) -> Unusual | None:
    part = "" if run.part is None else run.part.id
    if run.outcome == "accepted" and not run.retake_of and not part:
        return None
    return Unusual(outcome=run.outcome, fault=run.fault, retake_of=run.retake_of, part=part)


def _checked(*, book_id: int, runs: Sequence[NewRun], at: datetime) -> _Batch:
    _check_count(runs)
    batch = _Batch(
        book=prices.of_book(book_id),
        accounts=find_all(book_id=book_id, codes=list({run.account for run in runs})),
        at_us=to_us(at),
    )
    for position, run in enumerate(runs):
        batch.add(position, run)
    if batch.faults:
        raise InvalidRuns(faults=batch.faults)
    return batch


def _check_count(runs: Sequence[NewRun]) -> None:
    if not 1 <= len(runs) <= RUNS_PER_BATCH_MAX:
        message = f"must have 1 to {RUNS_PER_BATCH_MAX:,} runs, not {len(runs):,}"
        raise InvalidRuns(faults=[Fault(field="runs", rule="runs_count", message=message)])


def _write(batch: _Batch, *, book_id: int, at: datetime) -> Accepted:
    batch_id = uuid.uuid4()
    shards = sorted(batch.shards)
    parked_shards = {parked.account.shard for parked in batch.parked}
    Batch.objects.create(
        id=batch_id,
        book_id=book_id,
        received_at=at,
        runs_count=len(batch.accepted),
        shards=bytes(sorted(parked_shards.union(shards))),
    )
    _write_attributions(batch)
    parts = [batch.shards[shard] for shard in shards]
    sql.execute(
        "take_in",
        shards=shards,
        batch_id=batch_id,
        received_at=at,
        runs_counts=[len(part.packed) for part in parts],
        details=[packing.pack_details(part.details) for part in parts],
        runs=[b"".join(part.packed) for part in parts],
    )
    for parked in batch.parked:
        _write_parked(parked, batch_id=batch_id, at=at)
    return Accepted(batch_id=batch_id, shards=shards, runs=batch.accepted)


def _write_attributions(batch: _Batch) -> None:
    if not batch.attributions:
        return
    new = batch.attributions
    columns = list(zip(*new.values(), strict=True))
    sql.execute(
        "attribute",
        account_ids=[account_id for account_id, _ in new],
        keys=[uuid.UUID(bytes=key) for _, key in new],
        workflows=list(columns[0]),
        projects=list(columns[1]),
        jobs=list(columns[2]),
        cost_centres=list(columns[3]),
        departments=list(columns[4]),
        actors=list(columns[5]),
    )
    transaction.on_commit(lambda: _remember(set(new)))


def _remember(keys: set[tuple[int, bytes]]) -> None:
    if len(_known_attributions) > ATTRIBUTIONS_REMEMBERED_MAX:
        _known_attributions.clear()
    _known_attributions.update(keys)


def _write_parked(parked: _Parked, *, batch_id: uuid.UUID, at: datetime) -> None:
    ParkedRun.objects.create(
        shard=parked.account.shard,
        batch_id=batch_id,
        position=parked.position,
        account_id=parked.account.id,
        run_key=parked.key,
        occurred_at=parked.run.occurred_at,
        parked_at=at,
        reason=parked.reason[:300],
        body=_canonical.encode(parked.run),
        body_digest=parked.digest,
    )
