"""What a debited run cost, and why: its receipt. And what became of a batch.

A receipt's number is `RUN-2026-04-118-A7`: year and month in which the run occurred (UTC), the
account's gapless sequence number, and two characters that catch a mistyped number. Its money is
the value of the slices it took (ledger.value): of paid lots what was paid for those tokens, of
overage what the tiers ask, of debt nothing.
"""

import hashlib
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ledger import sql
from ledger.accounts import AccountFacts
from ledger.debiting import debited_digests
from ledger.errors import UnknownBatch, UnknownRun
from ledger.models import Account, Batch, Conflict, Entry, Intake, ParkedRun, Submission
from ledger.packing import InferenceDetails, RunDetails, unpack_details
from ledger.parking import parked_run
from ledger.queries import LotNow, lots
from ledger.units import Micros, Microtokens, run_key, shard_of
from ledger.value import slice_micros

RunName = tuple[int, uuid.UUID]  # the account's id and the run's key
_CHECK_LETTERS: Final = "ABCDEFGHJKLMNPQRSTUVWXYZ"


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """The part of a run that one lot served."""

    lot_id: int
    lot_kind: str
    source: str
    microtokens: Microtokens
    micros: Micros
    currency: str


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """One debited run, in full."""

    number: str
    run_id: str
    account: str
    occurred_at: datetime
    recorded_at: datetime
    workflow: str
    project: str
    job: str
    cost_centre: str
    department: str
    actor: str
    microtokens: Microtokens
    inferences: list[InferenceDetails]
    drawn: list[Drawn]

    @property
    def micros_by_currency(self) -> dict[str, Micros]:
        """What the run cost in money."""
        totals: dict[str, int] = defaultdict(int)
        for drawn in self.drawn:
            if drawn.currency:
                totals[drawn.currency] += drawn.micros
        return {currency: Micros(micros) for currency, micros in totals.items()}


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What became of one run of a batch: waiting, debited, conflict or unpriced."""

    run_id: str
    account: str
    status: str
    receipt: Receipt | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class DebitedRow:
    """A row of runs_by_key.sql."""

    account_id: int
    run_key: uuid.UUID
    occurred_at: datetime
    sequence: int
    microtokens: int
    lot_id: int
    out_before_microtokens: int
    slices_count: int
    micros: int
    flags: int
    body_digest: int
    submission_id: int
    submission_position: int
    recorded_at: datetime
    workflow: str
    project: str
    job: str
    cost_centre: str
    department: str
    actor: str


def number(*, account: str, occurred_at: datetime, sequence: int) -> str:
    """The receipt's number, with its check characters."""
    stem = f"RUN-{occurred_at:%Y-%m}-{sequence}"
    digest = hashlib.sha256(f"{account}:{stem}".encode()).digest()
    return f"{stem}-{_CHECK_LETTERS[digest[0] % len(_CHECK_LETTERS)]}{digest[1] % 10}"


def receipt(*, account: AccountFacts, run_id: str) -> Receipt:
    """The receipt of one run. Raises UnknownRun if the account has no such debited run."""
    name = (account.id, run_key(run_id))
    found = receipts(names=[name], codes={account.id: account.code})
    if name not in found:
        raise UnknownRun(account=account.code, run=run_id)
    return found[name]


def receipts(*, names: Sequence[RunName], codes: Mapping[int, str]) -> dict[RunName, Receipt]:
    """The receipts of these runs, as far as they are debited; `codes` names their accounts."""
    rows = sql.query(
        DebitedRow,
        "runs_by_key",
        account_ids=[account_id for account_id, _ in names],
        run_keys=[key for _, key in names],
    )
    known_lots = {lot.id: lot for lot in lots(account_ids=list({row.account_id for row in rows}))}
    slices = _slices([row for row in rows if row.slices_count > 1])
    details = _details((row.account_id, row.submission_id, row.submission_position) for row in rows)
    found: dict[RunName, Receipt] = {}
    for row in rows:
        taken = [(row.lot_id, row.out_before_microtokens, row.microtokens)]
        if row.slices_count != 1:
            taken = slices.get((row.account_id, row.run_key), [])
        place = (shard_of(row.account_id), row.submission_id, row.submission_position)
        code = codes[row.account_id]
        found[row.account_id, row.run_key] = Receipt(
            number=number(account=code, occurred_at=row.occurred_at, sequence=row.sequence),
            run_id=details[place].run_id,
            account=code,
            occurred_at=row.occurred_at,
            recorded_at=row.recorded_at,
            workflow=row.workflow,
            project=row.project,
            job=row.job,
            cost_centre=row.cost_centre,
            department=row.department,
            actor=row.actor,
            microtokens=Microtokens(row.microtokens),
            inferences=details[place].inferences,
            drawn=[
                _drawn(known_lots[lot_id], out_before, microtokens)
                for lot_id, out_before, microtokens in taken
            ],
        )
    return found


def of_batch(*, book_id: int, batch_id: uuid.UUID) -> list[RunResult]:
    """What became of each run of a batch; runs of one shard stand together, in their order.

    Raises UnknownBatch.
    """
    batch = Batch.objects.filter(id=batch_id, book_id=book_id).first()
    if batch is None:
        raise UnknownBatch(batch=str(batch_id))
    results: list[RunResult] = []
    for shard in bytes(batch.shards):
        for submission in Submission.objects.filter(shard=shard, batch_id=batch_id):
            results += _of_submission(submission)
        results += _parked(shard, batch_id)
    return results


def waits(*, batch_id: uuid.UUID, shard: int) -> bool:
    """Whether runs of a batch still wait for their debit in a shard."""
    submissions = Submission.objects.filter(shard=shard, batch_id=batch_id)
    return Intake.objects.filter(
        shard=shard, id__in=list(submissions.values_list("id", flat=True))
    ).exists()


def _of_submission(submission: Submission) -> list[RunResult]:
    shard = submission.shard
    details = unpack_details(
        bytes(submission.details), submission.runs_count, range(submission.runs_count)
    )
    codes = _codes(shard, {one.account_id for one in details})
    if Intake.objects.filter(shard=shard, id=submission.id).exists():
        return [
            RunResult(run_id=one.run_id, account=codes[one.account_id], status="waiting")
            for one in details
        ]
    conflicts = set(
        Conflict.objects.filter(shard=shard, submission_id=submission.id).values_list(
            "submission_position", flat=True
        )
    )
    names = [(one.account_id, run_key(one.run_id)) for one in details]
    found = receipts(names=names, codes=codes)
    return [
        _conflict(one.run_id, codes[one.account_id])
        if position in conflicts
        else RunResult(
            run_id=one.run_id,
            account=codes[one.account_id],
            status="debited",
            receipt=found[name],
        )
        for position, (one, name) in enumerate(zip(details, names, strict=True))
    ]


def _conflict(run_id: str, account: str) -> RunResult:
    reason = "the account already has a run under this id with another body"
    return RunResult(run_id=run_id, account=account, status="conflict", reason=reason)


def _parked(shard: int, batch_id: uuid.UUID) -> list[RunResult]:
    """A parked run holds no id: one with another body may have been debited under its own."""
    rows = list(ParkedRun.objects.filter(shard=shard, batch_id=batch_id).order_by("position"))
    codes = _codes(shard, {row.account_id for row in rows})
    names = [(row.account_id, row.run_key) for row in rows]
    digests = debited_digests(names=[(*name, 0) for name in names])
    found = receipts(names=names, codes=codes)
    results: list[RunResult] = []
    for row, name in zip(rows, names, strict=True):
        run_id, account = parked_run(row).id, codes[row.account_id]
        if (*name, 0) not in digests:
            results.append(
                RunResult(run_id=run_id, account=account, status="unpriced", reason=row.reason)
            )
        elif digests[*name, 0] == row.body_digest:
            results.append(
                RunResult(run_id=run_id, account=account, status="debited", receipt=found[name])
            )
        else:
            results.append(_conflict(run_id, account))
    return results


def _codes(shard: int, account_ids: Iterable[int]) -> dict[int, str]:
    accounts = Account.objects.filter(shard=shard, id__in=list(account_ids))
    return dict(accounts.values_list("id", "code"))


def _slices(rows: Sequence[DebitedRow]) -> dict[RunName, list[tuple[int, int, int]]]:
    """(lot id, out before, microtokens) of each slice of the runs that crossed lots."""
    slices: dict[RunName, list[tuple[int, int, int]]] = defaultdict(list)
    entries = Entry.objects.filter(
        shard__in={shard_of(row.account_id) for row in rows},
        account_id__in={row.account_id for row in rows},
        run_key__in=[row.run_key for row in rows],
        part=0,
        kind=Entry.Kind.DEBIT,
    )
    for entry in entries.order_by("id"):
        assert entry.run_key is not None
        slices[entry.account_id, entry.run_key].append(
            (entry.lot_id, entry.out_before_microtokens, entry.microtokens)
        )
    return slices


def _details(
    places: Iterable[tuple[int, int, int]],
) -> dict[tuple[int, int, int], RunDetails]:
    """Details by (account id's shard, submission id, position)."""
    positions: dict[tuple[int, int], list[int]] = defaultdict(list)
    for account_id, submission_id, position in places:
        positions[shard_of(account_id), submission_id].append(position)
    found: dict[tuple[int, int, int], RunDetails] = {}
    submissions = Submission.objects.filter(
        shard__in={shard for shard, _ in positions}, id__in={one for _, one in positions}
    )
    for submission in submissions.iterator():
        wanted = positions[submission.shard, submission.id]
        details = unpack_details(bytes(submission.details), submission.runs_count, wanted)
        for position, one in zip(wanted, details, strict=True):
            found[submission.shard, submission.id, position] = one
    return found


def _drawn(lot: LotNow, out_before: int, microtokens: int) -> Drawn:
    return Drawn(
        lot_id=lot.id,
        lot_kind=lot.kind,
        source=lot.source,
        microtokens=Microtokens(microtokens),
        micros=_worth(lot, out_before, out_before + microtokens),
        currency=lot.currency,
    )


def _worth(lot: LotNow, out_before: int, out_after: int) -> Micros:
    return slice_micros(
        price_micros=lot.price_micros,
        granted_microtokens=lot.granted_microtokens,
        tiers=lot.tiers,
        out_before=out_before,
        out_after=out_after,
    )
