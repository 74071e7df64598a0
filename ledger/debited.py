"""What the tables say of debited runs, read for their receipts."""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ledger import sql
from ledger.history import CorrectionRow, RunName
from ledger.models import Entry, PartedRun, Submission
from ledger.packing import IN_PARTS, RunDetails, unpack_details
from ledger.units import shard_of


@dataclass(frozen=True, kw_only=True)
class DebitedRow:
    """A row of runs_by_key.sql."""

    account_id: int
    run_key: uuid.UUID
    part: int
    occurred_at: datetime
    sequence: int
    microtokens: int
    lot_id: int
    out_before_microtokens: int
    slices_count: int
    flags: int
    submission_id: int
    submission_position: int
    recorded_at: datetime
    workflow: str
    project: str
    job: str
    cost_centre: str
    department: str
    actor: str

    @property
    def place(self) -> tuple[int, int, int]:
        """Where its details stand."""
        return shard_of(self.account_id), self.submission_id, self.submission_position


# A stretch of a lot that was drawn (1) or given back (-1): lot id, out before, microtokens, sign.
Stretch = tuple[int, int, int, int]


@dataclass(kw_only=True)
class DebitedRun:
    """A run with everything that its receipt says."""

    own: DebitedRow
    code: str
    parts: list[DebitedRow] = field(default_factory=list)
    corrections: list[CorrectionRow] = field(default_factory=list)
    ended_at: datetime | None = None

    @property
    def rows(self) -> list[DebitedRow]:
        """The rows that cost something: the run itself, or its parts."""
        return self.parts if self.own.flags & IN_PARTS else [self.own]

    @property
    def issued_at(self) -> datetime | None:
        return self.ended_at if self.own.flags & IN_PARTS else self.own.recorded_at


def debited(names: Sequence[RunName], codes: Mapping[int, str]) -> dict[RunName, DebitedRun]:
    """These runs, as far as they are debited. `names` may name one more than once."""
    found: dict[RunName, DebitedRun] = {}
    for row in sql.query(DebitedRow, "runs_by_key", **_keys(list(dict.fromkeys(names)))):
        name = (row.account_id, row.run_key)
        if row.part == 0:
            found[name] = DebitedRun(own=row, code=codes[row.account_id])
        else:
            found[name].parts.append(row)
    for correction in sql.query(CorrectionRow, "corrections_of_runs", **_keys(list(found))):
        found[correction.account_id, correction.run_key].corrections.append(correction)
    in_parts = [name for name, one in found.items() if one.own.flags & IN_PARTS]
    ended = PartedRun.objects.filter(
        shard__in={shard_of(account_id) for account_id, _ in in_parts},
        account_id__in={account_id for account_id, _ in in_parts},
        run_key__in=[key for _, key in in_parts],
    )
    if in_parts:
        for account_id, key, ended_at in ended.values_list("account_id", "run_key", "ended_at"):
            if (account_id, key) in found:
                found[account_id, key].ended_at = ended_at
    return found


def _keys(names: Sequence[RunName]) -> dict[str, list[int] | list[uuid.UUID]]:
    return {
        "account_ids": [account_id for account_id, _ in names],
        "run_keys": [key for _, key in names],
    }


def slices_of(
    rows: Sequence[DebitedRow],
) -> dict[tuple[int, uuid.UUID, int], list[Stretch]]:
    """The slices of the runs that crossed lots."""
    slices: dict[tuple[int, uuid.UUID, int], list[Stretch]] = defaultdict(list)
    if not rows:
        return slices
    entries = Entry.objects.filter(
        shard__in={shard_of(row.account_id) for row in rows},
        account_id__in={row.account_id for row in rows},
        run_key__in=[row.run_key for row in rows],
        kind=Entry.Kind.DEBIT,
    )
    for entry in entries.order_by("id"):
        assert entry.run_key is not None
        assert entry.part is not None
        slices[entry.account_id, entry.run_key, entry.part].append(
            (entry.lot_id, entry.out_before_microtokens, entry.microtokens, 1)
        )
    return slices


def details_of(
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


def stretches(
    of: DebitedRun, slices: Mapping[tuple[int, uuid.UUID, int], list[Stretch]]
) -> list[Stretch]:
    found: list[Stretch] = []
    for row in of.rows:
        if row.slices_count == 1:
            found.append((row.lot_id, row.out_before_microtokens, row.microtokens, 1))
        else:
            found += slices.get((row.account_id, row.run_key, row.part), [])
    for correction in of.corrections:
        for kind, lot_id, out_before, microtokens in correction.amends.entries:
            if kind == Entry.Kind.RETURN:
                found.append((lot_id, out_before - microtokens, microtokens, -1))
            elif kind == Entry.Kind.CHARGE:
                found.append((lot_id, out_before, microtokens, 1))
    return found
