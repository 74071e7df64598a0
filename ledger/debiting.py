"""Debit what was accepted: drain a shard, one transaction a block.

A block is the runs of the oldest intakes of one shard, at most about RUNS_PER_BLOCK_MAX. Its
transaction holds the shard's lock, takes the intakes and writes the block (ledger.blocks).

A crash anywhere leaves all of it undone and the intakes in place. A run that is there already
violates the unique key; the block is then done again without it: the same body is the same run,
another body under its id is a conflict, told in the batch's result.
"""

import uuid
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
from django.db import IntegrityError, transaction

from ledger import parts, retakes, sql
from ledger.blocks import Waiting, write_block
from ledger.chain import Head
from ledger.models import Conflict, Intake
from ledger.packing import IN_PARTS
from ledger.units import shard_of

RUNS_PER_BLOCK_MAX: Final = 20_000
INTAKES_PER_BLOCK_MAX: Final = 1_000


RunName = tuple[int, uuid.UUID, int]  # the account's id, the run's key, and which part (0: whole)


@dataclass(frozen=True, kw_only=True)
class Drained:
    """One block, or nothing if nothing was waiting."""

    runs_count: int
    repeated_count: int
    conflicts_count: int
    is_empty: bool
    is_full: bool  # so that more may wait


def waiting_shards() -> list[int]:
    """Shards in which accepted runs wait for their debit."""
    return list(Intake.objects.order_by("shard").values_list("shard", flat=True).distinct())


def drain_all(*, account_ids: Sequence[int] | None = None, at: datetime) -> int:
    """Debit everything that waits in the shards of these accounts (None: in all); how many runs."""
    shards = (
        waiting_shards() if account_ids is None else sorted({shard_of(one) for one in account_ids})
    )
    return sum(drain_shard(shard=shard, at=at) for shard in shards)


def drain_shard(*, shard: int, at: datetime) -> int:
    """Debit block after block until nothing waits in the shard; the number of runs debited."""
    total = 0
    while not (drained := drain_block(shard=shard, at=at)).is_empty:
        total += drained.runs_count
    return total


def drain_block(*, shard: int, at: datetime) -> Drained:
    """Debit the oldest waiting runs of a shard, in one transaction.

    Nearly always all of them are new, and the unique key is the quickest to say so. If it says that
    one is not, the transaction is undone, and done again with the known ones set apart first.

    A transaction around it goes on with the planner's settings of sql/begin_debit.sql.
    """
    try:
        with transaction.atomic():
            return _drain(shard=shard, are_new=True, at=at)
    except IntegrityError as error:
        if "ledger_run_pkey" not in str(error):
            raise
    with transaction.atomic():
        return _drain(shard=shard, are_new=False, at=at)


def _drain(*, shard: int, are_new: bool, at: datetime) -> Drained:
    limits = {"runs_max": RUNS_PER_BLOCK_MAX, "intakes_max": INTAKES_PER_BLOCK_MAX}
    _, intakes, last = sql.in_one_go(
        ("begin_debit", {"shard": shard}),
        ("take_oldest_intakes", {"shard": shard, **limits}),
        ("head", {"shard": shard}),
    )
    if not intakes:
        return Drained(
            runs_count=0, repeated_count=0, conflicts_count=0, is_empty=True, is_full=False
        )
    waiting = Waiting.of(shard, intakes)
    # An intake has half a block at most: one that was left would have been too much with these.
    is_full = len(waiting.runs) > RUNS_PER_BLOCK_MAX // 2 or len(intakes) == INTAKES_PER_BLOCK_MAX
    return _debit(waiting, Head.of(last), is_full=is_full, are_new=are_new, at=at)


def _debit(waiting: Waiting, head: Head, *, is_full: bool, are_new: bool, at: datetime) -> Drained:
    come = len(waiting.runs)
    conflicts: list[Waiting] = []
    if waiting.has_parts:
        arranged = parts.arrange(waiting)
        waiting, conflicts = arranged.debit, [arranged.conflicts]
    if not are_new:
        waiting, in_conflict = _set_known_apart(waiting)
        conflicts.append(in_conflict)
    conflicts_count = sum(len(one.runs) for one in conflicts)
    for one in conflicts:
        _record_conflicts(one, at=at)
    if len(waiting.runs):
        _write(waiting, head, at=at)
    runs_count = len(waiting.runs) - int(np.count_nonzero(waiting.runs["flags"] & IN_PARTS))
    return Drained(
        runs_count=runs_count,
        repeated_count=come - runs_count - conflicts_count,
        conflicts_count=conflicts_count,
        is_empty=False,
        is_full=is_full,
    )


def _write(waiting: Waiting, head: Head, *, at: datetime) -> None:
    """Write the block, and what few have in it: parts of runs, and runs that retake others."""
    have_retakes = retakes.has_retakes(waiting)
    write_block(waiting, head, is_last=not (waiting.has_parts or have_retakes), at=at)
    if waiting.has_parts:
        parts.note(debited=waiting, at=at)
    if have_retakes:
        retakes.note(debited=waiting, at=at)


@dataclass(frozen=True, kw_only=True)
class KnownRun:
    """A row of known_runs.sql."""

    account_id: int
    run_key: uuid.UUID
    part: int
    body_digest: int


def debited_digests(*, names: Sequence[RunName]) -> dict[RunName, int]:
    """Of these runs those that are debited, with the digests of the bodies they came with."""
    by_shard: dict[int, list[RunName]] = defaultdict(list)
    for name in names:
        by_shard[shard_of(name[0])].append(name)
    return {
        (known.account_id, known.run_key, known.part): known.body_digest
        for shard, of_shard in sorted(by_shard.items())
        for known in sql.query(
            KnownRun,
            "known_runs",
            shard=shard,
            account_ids=[account_id for account_id, _, _ in of_shard],
            run_keys=[key for _, key, _ in of_shard],
            parts=[part for _, _, part in of_shard],
        )
    }


def _set_known_apart(waiting: Waiting) -> tuple[Waiting, Waiting]:
    """The runs that are new, each once, and those under another run's id."""
    keys = waiting.keys()
    digests = debited_digests(names=keys)
    new: list[int] = []
    conflicts: list[int] = []
    for row, (key, digest) in enumerate(
        zip(keys, waiting.runs["body_digest"].tolist(), strict=True)
    ):
        if key not in digests:
            digests[key] = digest
            new.append(row)
        elif digests[key] != digest:
            conflicts.append(row)
    return waiting.pick(np.array(new, np.int64)), waiting.pick(np.array(conflicts, np.int64))


def _record_conflicts(conflicts: Waiting, *, at: datetime) -> None:
    Conflict.objects.bulk_create(
        Conflict(
            shard=conflicts.shard,
            submission_id=submission_id,
            submission_position=position,
            account_id=account_id,
            run_key=key,
            recorded_at=at,
        )
        for (account_id, key, _), submission_id, position in zip(
            conflicts.keys(),
            conflicts.submission_ids.tolist(),
            conflicts.positions.tolist(),
            strict=True,
        )
    )
