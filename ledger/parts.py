"""Runs that come in parts, as emitters send them that report one inference at a time.

Each part is debited once, as it arrives, under its run's id and its own. With the first the run
itself is written: a row of its own that costs nothing and takes the receipt's number. The receipt
is issued when a part said that the run has ended, or when nothing more came for QUIET_FOR.

    part 1 ──▶ run, number 118     part 2 ──▶        last part ──▶ receipt issued, version 1
                                                     late part ──▶ debited all the same: version 2

A run that came whole takes no parts, and one that comes in parts is never taken whole: whichever
is second is in conflict. Where a part says that the run failed by the vendor's fault, the parts
before it are given back, and those after it are free.
"""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt
from django.db import transaction

from ledger import sql
from ledger.amending import Amending
from ledger.blocks import Waiting
from ledger.history import RunName
from ledger.packing import FAILED, IN_PARTS, LAST_PART, NOT_CHARGED

# What stands for the body of a run that comes in parts: no whole run has the same.
PARTED_DIGEST: Final = int.from_bytes(b"in parts", "little", signed=True)
QUIET_FOR: Final = timedelta(minutes=15)
RUNS_PER_SWEEP_MAX: Final = 10_000


@dataclass(frozen=True, kw_only=True)
class Arranged:
    """Rows to debit, the runs of new parts among them, and parts of runs that came whole."""

    debit: Waiting
    conflicts: Waiting


def arrange(waiting: Waiting) -> Arranged:
    """Put a row for the run itself before the first part of each new run."""
    names = _names(waiting)
    is_part = (waiting.runs["part"] != 0).tolist()
    digests = _known_digests(waiting.shard, {name for name, part in _zip(names, is_part) if part})
    order: list[int] = []
    new: list[int] = []  # where in the order runs that begin with a part stand
    conflicts: list[int] = []
    for row, (name, part) in enumerate(_zip(names, is_part)):
        if not part:
            # Of two rows under one key the debit tells the repeated from the conflicting.
            digests.setdefault(name, int(waiting.runs["body_digest"][row]))
        elif name not in digests:
            digests[name] = PARTED_DIGEST
            new.append(len(order))
            order.append(row)
        elif digests[name] != PARTED_DIGEST:
            conflicts.append(row)
            continue
        order.append(row)
    debit = waiting.pick(np.array(order, np.int64))
    if new:
        _make_runs(debit, np.array(new, np.int64))
    return Arranged(debit=debit, conflicts=waiting.pick(np.array(conflicts, np.int64)))


def note(*, debited: Waiting, at: datetime) -> None:
    """Write down which runs' parts were debited; correct those that are late, or failed.

    In the transaction of the debit, which holds the shard's lock.
    """
    parts = debited.pick(np.flatnonzero(debited.runs["part"] != 0))
    come: dict[RunName, _Come] = {}
    for name, part, flags in zip(
        _names(parts), parts.runs["part"].tolist(), parts.runs["flags"].tolist(), strict=True
    ):
        come.setdefault(name, _Come()).add(part, flags)
    known = {
        (account_id, key)
        for account_id, key, is_known in sql.rows("parted_runs", shard=debited.shard, **_keys(come))
        if is_known
    }
    sql.execute(
        "note_parts",
        shard=debited.shard,
        at=at,
        **_keys(come),
        have_ended=[one.has_ended for one in come.values()],
        are_waived=[one.is_waived for one in come.values()],
    )
    late = {name: one for name, one in come.items() if name in known}
    failed = {name: one for name, one in come.items() if one.failing_part}
    if late or failed:
        _correct(debited.shard, late=late, failed=failed, at=at)


def end_quiet(*, quiet_for: timedelta = QUIET_FOR, at: datetime) -> int:
    """Issue the receipts of runs of which nothing came for `quiet_for`; how many.

    At most RUNS_PER_SWEEP_MAX of a shard, those first that have been quiet longest. Call again
    until it returns 0.
    """
    ended = 0
    quiet_since = at - quiet_for
    for (shard,) in sql.rows("shards_with_quiet_runs", quiet_since=quiet_since):
        with transaction.atomic():
            # A part that is debited now is either before the end, or after it.
            sql.lock_shard(shard)
            ended += sql.execute(
                "end_quiet_runs",
                shard=shard,
                quiet_since=quiet_since,
                at=at,
                runs_max=RUNS_PER_SWEEP_MAX,
            )
    return ended


@dataclass(slots=True)
class _Come:
    """What came of one run in a block."""

    parts: list[int] = field(default_factory=list)
    has_ended: bool = False
    is_waived: bool = False
    failing_part: int = 0  # the first that says so

    def add(self, part: int, flags: int) -> None:
        self.parts.append(part)
        self.has_ended |= bool(flags & LAST_PART)
        self.is_waived |= bool(flags & NOT_CHARGED)
        if flags & FAILED and not self.failing_part:
            self.failing_part = part


def _correct(
    shard: int, *, late: dict[RunName, _Come], failed: dict[RunName, _Come], at: datetime
) -> None:
    amending = Amending(shard=shard, names=[*{**late, **failed}], at=at)
    for name, one in late.items():
        history = amending.histories[name]
        history.uncounted.update(one.parts)
        for part in one.parts:
            # All of them are among the run's pieces: the first gives back what all of them cost.
            amending.correct(
                history,
                kind="part",
                operation_key=f"{history.own.run_key}:{part}",
                part=part,
                give_back=history.left_microtokens if history.was_waived else 0,
            )
    for name, one in failed.items():
        history = amending.histories[name]
        fault = "vendor" if one.is_waived else "customer"
        left = history.left_microtokens if fault == "vendor" else 0
        if left or not history.has_failed or (fault == "vendor" and not history.was_waived):
            amending.correct(
                history,
                kind="outcome",
                operation_key=f"part:{history.own.run_key}:{one.failing_part}",
                give_back=left,
                outcome="failed",
                fault=fault,
            )
    amending.write()


def _make_runs(debit: Waiting, rows: npt.NDArray[np.int64]) -> None:
    """Turn these rows, copies of first parts, into the runs themselves."""
    runs = debit.runs
    runs["part"][rows] = 0
    runs["microtokens"][rows] = 0
    runs["body_digest"][rows] = PARTED_DIGEST
    runs["flags"][rows] = runs["flags"][rows] & ~LAST_PART | IN_PARTS


def _known_digests(shard: int, names: Iterable[RunName]) -> dict[RunName, int]:
    """Of these runs those that are there, with the digests of their bodies."""
    listed = list(names)
    return {
        (account_id, key): digest
        for account_id, key, _, digest in sql.rows(
            "known_runs", shard=shard, **_keys(listed), parts=sql.array([0] * len(listed))
        )
    }


def _names(waiting: Waiting) -> list[RunName]:
    """The run of each row; the parts of one share its key."""
    known: dict[bytes, uuid.UUID] = {}
    return [
        (account_id, known.get(key) or known.setdefault(key, uuid.UUID(bytes=key)))
        for account_id, key in zip(
            waiting.runs["account_id"].tolist(), waiting.runs["run_key"].tolist(), strict=True
        )
    ]


def _zip(names: list[RunName], is_part: list[bool]) -> Iterable[tuple[RunName, bool]]:
    return zip(names, is_part, strict=True)


def _keys(names: Iterable[RunName]) -> dict[str, str]:
    listed = list(names)
    return {
        "account_ids": sql.array(account_id for account_id, _ in listed),
        "run_keys": sql.array(key.hex for _, key in listed),
    }
