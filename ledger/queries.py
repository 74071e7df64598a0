"""What the ledger can be asked. Reads only; nothing here changes or locks anything."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Sum

from ledger import sql
from ledger.models import Entry, Standing, Submission
from ledger.packing import unpack_details
from ledger.units import Microtokens, shard_of
from ledger.value import Tiers


@dataclass(frozen=True, kw_only=True)
class LotNow:
    """A lot as it stands. `remaining_microtokens` is what no run, expiry or rollover has taken.

    Of a debt lot `out_microtokens` is what is owed; of an overage lot, what is to be billed.
    """

    id: int
    account_id: int
    kind: str
    source: str
    priority: int
    issued_at: datetime
    effective_at: datetime
    expires_at: datetime | None
    closes_at: datetime | None
    granted_microtokens: Microtokens
    out_microtokens: Microtokens
    price_micros: int
    currency: str
    tiers: Tiers | None
    rollover_microtokens_max: int
    rollover_expires_at: datetime | None
    rolled_from_lot_id: int | None

    @property
    def remaining_microtokens(self) -> Microtokens:
        return Microtokens(self.granted_microtokens - self.out_microtokens)

    def serves(self, at: datetime) -> bool:
        """Whether a run that occurs at `at` may draw on it."""
        return self.effective_at <= at and (self.expires_at is None or at < self.expires_at)


@dataclass(frozen=True, kw_only=True)
class Balance:
    """What an account can spend on a run that occurs at a given instant, and what it owes."""

    available_microtokens: Microtokens
    debt_microtokens: Microtokens
    overage_microtokens: Microtokens


@dataclass(frozen=True, kw_only=True)
class RunLine:
    """A debited run in a list."""

    run_id: str
    sequence: int
    occurred_at: datetime
    microtokens: Microtokens
    workflow: str
    project: str
    job: str
    cost_centre: str
    department: str
    actor: str


@dataclass(frozen=True, kw_only=True)
class Movement:
    """One entry of a lot that is not a run's debit."""

    kind: str
    out_before_microtokens: Microtokens
    microtokens: Microtokens
    operation_key: str | None
    occurred_at: datetime


def lots(*, account_ids: Sequence[int]) -> list[LotNow]:
    """All lots of these accounts, account by account, in draw-down order."""
    return [
        _lot(row)
        for row in sql.query(
            LotRow, "lots_now", shards=_shards(account_ids), account_ids=list(account_ids)
        )
    ]


def balances(*, account_ids: Sequence[int], at: datetime) -> dict[int, Balance]:
    """Each account's balance for a run that occurs at `at`: time alone decides what is expired."""
    return balances_of(lots=lots(account_ids=account_ids), account_ids=account_ids, at=at)


def balances_of(
    *, lots: Sequence[LotNow], account_ids: Sequence[int], at: datetime
) -> dict[int, Balance]:
    """`balances` from all lots of these accounts, for those who have read them already."""
    available = dict.fromkeys(account_ids, 0)
    debt = dict.fromkeys(account_ids, 0)
    overage = dict.fromkeys(account_ids, 0)
    for lot in lots:
        if lot.kind == "debt":
            debt[lot.account_id] += lot.out_microtokens
        elif lot.kind == "overage" and lot.serves(at):
            overage[lot.account_id] += lot.out_microtokens
        elif lot.kind == "prepaid" and lot.serves(at):
            available[lot.account_id] += lot.remaining_microtokens
    return {
        account_id: Balance(
            available_microtokens=Microtokens(available[account_id]),
            debt_microtokens=Microtokens(debt[account_id]),
            overage_microtokens=Microtokens(overage[account_id]),
        )
        for account_id in account_ids
    }


def consumed(*, lot_id: int, account_id: int) -> Microtokens:
    """What runs took from a lot: not what expired, rolled over, repaid a debt or was reversed."""
    return all_consumed(lots={lot_id: account_id})[lot_id]


def all_consumed(*, lots: dict[int, int]) -> dict[int, Microtokens]:
    """`consumed` of many lots at once: {lot id: account id} in, {lot id: microtokens} out."""
    rows = sql.query(
        _Consumed,
        "consumed",
        shards=_shards(list(lots)),
        account_ids=sorted(set(lots.values())),
        lot_ids=list(lots),
    )
    return {row.lot_id: Microtokens(row.microtokens) for row in rows}


def movements(*, lot_id: int) -> list[Movement]:
    """A lot's entries other than runs' debits, in the order in which they were written."""
    entries = Entry.objects.filter(
        shard=shard_of(lot_id), lot_id=lot_id, operation_key__isnull=False
    )
    return [
        Movement(
            kind=entry.kind,
            out_before_microtokens=Microtokens(entry.out_before_microtokens),
            microtokens=Microtokens(entry.microtokens),
            operation_key=entry.operation_key,
            occurred_at=entry.occurred_at,
        )
        for entry in entries.order_by("id")
    ]


def runs(*, account_id: int, runs_max: int) -> list[RunLine]:
    """The account's latest receipts, newest first."""
    shard = shard_of(account_id)
    rows = sql.query(RunRow, "latest_runs", shard=shard, account_id=account_id, runs_max=runs_max)
    ids = _run_ids(shard, [(row.submission_id, row.submission_position) for row in rows])
    return [
        RunLine(
            run_id=ids[row.submission_id, row.submission_position],
            sequence=row.sequence,
            occurred_at=row.occurred_at,
            microtokens=Microtokens(row.microtokens),
            workflow=row.workflow,
            project=row.project,
            job=row.job,
            cost_centre=row.cost_centre,
            department=row.department,
            actor=row.actor,
        )
        for row in rows
    ]


def runs_count(*, account_ids: Sequence[int]) -> int:
    """How many runs of these accounts are debited: receipts are numbered without gaps."""
    standings = Standing.objects.filter(
        shard__in=_shards(account_ids), account_id__in=list(account_ids)
    )
    return int(standings.aggregate(debited=Sum("runs_count", default=0))["debited"])


@dataclass(frozen=True, kw_only=True)
class LotRow:
    """A row of lots_now.sql."""

    id: int
    account_id: int
    kind: str
    source: str
    priority: int
    issued_at: datetime
    effective_at: datetime
    expires_at: datetime | None
    closes_at: datetime | None
    granted_microtokens: int
    out_microtokens: int
    price_micros: int
    currency: str
    tiers: str | None  # JSON: Django leaves it to the caller
    rollover_microtokens_max: int
    rollover_expires_at: datetime | None
    rolled_from_lot_id: int | None


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """A row of latest_runs.sql."""

    run_key: Any
    sequence: int
    occurred_at: datetime
    microtokens: int
    submission_id: int
    submission_position: int
    workflow: str
    project: str
    job: str
    cost_centre: str
    department: str
    actor: str


@dataclass(frozen=True, kw_only=True)
class _Consumed:
    lot_id: int
    microtokens: int


def _lot(row: LotRow) -> LotNow:
    tiers = None if row.tiers is None else Tiers.of_json(row.tiers)
    facts = vars(row) | {
        "granted_microtokens": Microtokens(row.granted_microtokens),
        "out_microtokens": Microtokens(row.out_microtokens),
        "tiers": tiers,
    }
    return LotNow(**facts)


def _run_ids(shard: int, places: Sequence[tuple[int, int]]) -> dict[tuple[int, int], str]:
    positions: dict[int, list[int]] = {}
    for submission_id, position in places:
        positions.setdefault(submission_id, []).append(position)
    ids: dict[tuple[int, int], str] = {}
    for submission in Submission.objects.filter(shard=shard, id__in=list(positions)):
        wanted = positions[submission.id]
        details = unpack_details(bytes(submission.details), submission.runs_count, wanted)
        ids |= {
            (submission.id, position): one.run_id
            for position, one in zip(wanted, details, strict=True)
        }
    return ids


def _shards(identifiers: Sequence[int]) -> list[int]:
    return sorted({shard_of(identifier) for identifier in identifiers})
