"""What a debited run cost, and why: its receipt. And what became of a batch.

A receipt's number is `RUN-2026-04-118-A7`: year and month in which the run occurred (UTC), the
account's gapless sequence number, and two characters that catch a mistyped number. Its money is
the value of the slices it took (ledger.value): of paid lots what was paid for those tokens, of
overage what the tiers ask, of debt nothing. Where that is nothing, or less than nothing because
overage became cheaper with it, the receipt says so in words.

The first version says what was debited. Each correction is a further version, linked to those
before it: amounts are net, what each version changed stands beside them. The receipt of a run that
comes in parts shows all of them, in order of their own time, however they came.
"""

import hashlib
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ledger.accounts import AccountFacts
from ledger.debited import DebitedRun, Stretch, debited, details_of, slices_of, stretches
from ledger.debiting import debited_digests
from ledger.errors import UnknownBatch, UnknownRun
from ledger.history import RunName
from ledger.models import Account, Batch, Conflict, Intake, ParkedRun, Submission
from ledger.packing import (
    IN_PARTS,
    InferenceDetails,
    RunDetails,
    Unusual,
    unpack_details,
)
from ledger.parking import parked_run
from ledger.queries import LotNow, lots
from ledger.reasons import why
from ledger.units import Micros, Microtokens, part_key, run_key
from ledger.value import slice_micros

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
    note: str  # why its money is not what one would expect


@dataclass(frozen=True, kw_only=True)
class Correction:
    """What a later version of a receipt changed."""

    version: int
    kind: str  # void, outcome, retaken, part or rerate
    recorded_at: datetime
    reason: str
    microtokens: Microtokens
    micros: Micros


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """One debited run, in full, as of its latest version: all amounts are net.

    `issued_at` is None while a run that comes in parts goes on. `outcome` is accepted, retaken or
    failed, and then `fault` says whose it was.
    """

    number: str
    version: int
    run_id: str
    account: str
    occurred_at: datetime
    recorded_at: datetime
    issued_at: datetime | None
    workflow: str
    project: str
    job: str
    cost_centre: str
    department: str
    actor: str
    outcome: str
    fault: str
    retake_of: str
    retaken_by: str
    microtokens: Microtokens
    inferences: list[InferenceDetails]
    drawn: list[Drawn]
    corrections: list[Correction]

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
    runs = debited(names, codes)
    rows = [row for one in runs.values() for row in (one.own, *one.parts)]
    known_lots = {lot.id: lot for lot in lots(account_ids=list({row.account_id for row in rows}))}
    slices = slices_of([row for row in rows if row.slices_count > 1])
    details = details_of(row.place for row in rows)
    return {
        name: _receipt(
            one,
            details=details,
            drawn=_all_drawn(known_lots, stretches(one, slices)),
        )
        for name, one in runs.items()
    }


def _receipt(
    of: DebitedRun, *, details: Mapping[tuple[int, int, int], RunDetails], drawn: list[Drawn]
) -> Receipt:
    own = details[of.own.place]
    # Parts come in any order: what the receipt says of the run is what its earliest part says.
    first = min(of.rows, key=lambda row: (row.occurred_at, row.part))
    net = sum(row.microtokens for row in of.rows) + sum(one.microtokens for one in of.corrections)
    outcome = _Outcome.of(of, own.unusual or Unusual())
    return Receipt(
        number=number(account=of.code, occurred_at=of.own.occurred_at, sequence=of.own.sequence),
        version=1 + len(of.corrections),
        run_id=own.run_id,
        account=of.code,
        occurred_at=first.occurred_at,
        recorded_at=of.own.recorded_at,
        issued_at=of.issued_at,
        workflow=first.workflow,
        project=first.project,
        job=first.job,
        cost_centre=first.cost_centre,
        department=first.department,
        actor=first.actor,
        outcome=outcome.outcome,
        fault=outcome.fault,
        retake_of="" if own.unusual is None else own.unusual.retake_of,
        retaken_by=outcome.retaken_by,
        microtokens=Microtokens(net),
        inferences=_inferences(of, details),
        drawn=drawn,
        corrections=[
            Correction(
                version=one.version,
                kind=one.kind,
                recorded_at=one.recorded_at,
                reason=one.amends.reason,
                microtokens=Microtokens(one.microtokens),
                micros=Micros(one.micros),
            )
            for one in of.corrections
        ],
    )


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    """How a run came out, by what it said itself and what was said of it since."""

    outcome: str
    fault: str
    retaken_by: str

    @staticmethod
    def of(debited: DebitedRun, said: Unusual) -> "_Outcome":
        outcome, fault, retaken_by = said.outcome, said.fault, ""
        for one in debited.corrections:
            amends = one.amends
            outcome, fault = amends.outcome or outcome, amends.fault or fault
            retaken_by = retaken_by or amends.retaken_by
        if outcome == "accepted" and retaken_by:
            outcome = "retaken"
        return _Outcome(outcome=outcome, fault=fault, retaken_by=retaken_by)


def _inferences(
    of: DebitedRun, details: Mapping[tuple[int, int, int], RunDetails]
) -> list[InferenceDetails]:
    """All inferences in order of their time, at the price that holds by now."""
    rated = {part: costs for one in of.corrections for part, costs in one.amends.rated}
    inferences: list[InferenceDetails] = []
    for row in sorted(of.rows, key=lambda row: (row.occurred_at, row.part)):
        priced = details[row.place].inferences
        if row.part in rated:
            priced = [
                InferenceDetails(
                    one.engine, one.occurred_at_us, one.quantities, version_id, microtokens
                )
                for one, (version_id, microtokens) in zip(priced, rated[row.part], strict=True)
            ]
        inferences += priced
    if of.own.flags & IN_PARTS:
        inferences.sort(key=lambda one: one.occurred_at_us)
    return inferences


def _all_drawn(known_lots: Mapping[int, LotNow], taken: Sequence[Stretch]) -> list[Drawn]:
    """What each lot served, in the order in which they did; a lot that had all back is left out."""
    totals: dict[int, list[int]] = {}
    notes: dict[int, list[str]] = defaultdict(list)
    for lot_id, out_before, microtokens, sign in taken:
        lot = known_lots[lot_id]
        begin, end = (out_before, out_before + microtokens)[::sign]
        total = totals.setdefault(lot_id, [0, 0])
        total[0] += sign * microtokens
        total[1] += _worth(lot, begin, end)
        if lot.tiers is not None:
            notes[lot_id].append(
                why(tiers=lot.tiers, out_before=begin, out_after=end, currency=lot.currency)
            )
    return [
        _drawn(known_lots[lot_id], microtokens, micros, notes[lot_id])
        for lot_id, (microtokens, micros) in totals.items()
        if microtokens or micros
    ]


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
    runs = [parked_run(row) for row in rows]
    names = [
        (row.account_id, row.run_key, 0 if run.part is None else part_key(run.part.id))
        for row, run in zip(rows, runs, strict=True)
    ]
    digests = debited_digests(names=names)
    found = receipts(names=[(account_id, key) for account_id, key, _ in names], codes=codes)
    results: list[RunResult] = []
    for row, run, name in zip(rows, runs, names, strict=True):
        account = codes[row.account_id]
        if name not in digests:
            results.append(
                RunResult(run_id=run.id, account=account, status="unpriced", reason=row.reason)
            )
        elif digests[name] == row.body_digest:
            results.append(
                RunResult(run_id=run.id, account=account, status="debited", receipt=found[name[:2]])
            )
        else:
            results.append(_conflict(run.id, account))
    return results


def _codes(shard: int, account_ids: Iterable[int]) -> dict[int, str]:
    accounts = Account.objects.filter(shard=shard, id__in=list(account_ids))
    return dict(accounts.values_list("id", "code"))


def _drawn(lot: LotNow, microtokens: int, micros: int, notes: Sequence[str]) -> Drawn:
    return Drawn(
        lot_id=lot.id,
        lot_kind=lot.kind,
        source=lot.source,
        microtokens=Microtokens(microtokens),
        micros=Micros(micros),
        currency=lot.currency,
        note=" ".join(dict.fromkeys(note for note in notes if note)),
    )


def _worth(lot: LotNow, out_before: int, out_after: int) -> Micros:
    return slice_micros(
        price_micros=lot.price_micros,
        granted_microtokens=lot.granted_microtokens,
        tiers=lot.tiers,
        out_before=out_before,
        out_after=out_after,
    )
