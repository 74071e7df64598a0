"""Retakes: runs that do again what another run did.

A retake says which run it does again. That run is marked `retaken` once, by whichever retake is
the first: its receipt says so, and what it cost counts as rework. It may come after its retake, or
never: the retake waits for nothing. Those whose other run comes later are marked by a sweep.
"""

import uuid
from collections import defaultdict
from datetime import datetime
from typing import Final

import numpy as np
from django.db import transaction

from ledger import sql
from ledger.amending import Amending
from ledger.blocks import Waiting
from ledger.history import RunName
from ledger.models import Submission
from ledger.packing import RETAKE, RunDetails, unpack_details
from ledger.units import run_key

RETAKES_PER_SWEEP_MAX: Final = 1_000


def has_retakes(waiting: Waiting) -> bool:
    return bool(np.any(waiting.runs["flags"] & RETAKE))


def note(*, debited: Waiting, at: datetime) -> None:
    """Write down the retakes among debited runs, and mark what they retake, where it is there.

    In the transaction of the debit, which holds the shard's lock.
    """
    retakes = debited.pick(np.flatnonzero(debited.runs["flags"] & RETAKE))
    details = _details(retakes)
    names = [(one.account_id, run_key(one.run_id)) for one in details]
    account_ids = [account_id for account_id, _ in names]
    run_keys = [key for _, key in names]
    sql.execute(
        "note_retakes",
        shard=debited.shard,
        at=at,
        account_ids=account_ids,
        run_keys=run_keys,
        run_ids=[one.run_id for one in details],
        retaken_keys=[_retaken(one) for one in details],
    )
    _mark(debited.shard, account_ids=account_ids, run_keys=run_keys, retakes_max=len(names), at=at)


def mark_waiting(*, at: datetime) -> int:
    """Mark runs that came after their retakes; how many retakes were settled.

    At most RETAKES_PER_SWEEP_MAX a shard. Call again until it returns 0.
    """
    marked = 0
    for (shard,) in sql.rows("shards_with_retakes"):
        with transaction.atomic():
            sql.lock_shard(shard)
            marked += _mark(
                shard, account_ids=None, run_keys=None, retakes_max=RETAKES_PER_SWEEP_MAX, at=at
            )
    return marked


def _mark(
    shard: int,
    *,
    account_ids: list[int] | None,
    run_keys: list[uuid.UUID] | None,
    retakes_max: int,
    at: datetime,
) -> int:
    found = sql.rows(
        "retakes_of_shard",
        shard=shard,
        account_ids=account_ids,
        run_keys=run_keys,
        retakes_max=retakes_max,
    )
    if not found:
        return 0
    retaken: dict[RunName, str] = {}
    for account_id, _, run_id, retaken_key in found:
        retaken.setdefault((account_id, retaken_key), run_id)
    amending = Amending(shard=shard, names=list(retaken), at=at)
    for name, run_id in retaken.items():
        history = amending.histories[name]
        if not history.retaken_by:
            amending.correct(
                history,
                kind="retaken",
                operation_key=str(history.own.run_key),
                retaken_by=run_id,
            )
    amending.write()
    return sql.execute(
        "retakes_marked",
        shard=shard,
        at=at,
        account_ids=[account_id for account_id, *_ in found],
        run_keys=[key for _, key, *_ in found],
    )


def _retaken(retake: RunDetails) -> uuid.UUID:
    assert retake.unusual is not None, "a retake says so in its details"
    return run_key(retake.unusual.retake_of)


def _details(runs: Waiting) -> list[RunDetails]:
    """The details of waiting runs, submission after submission."""
    positions: dict[int, set[int]] = defaultdict(set)
    for submission_id, position in zip(
        runs.submission_ids.tolist(), runs.positions.tolist(), strict=True
    ):
        positions[submission_id].add(position)
    details: list[RunDetails] = []
    for submission in Submission.objects.filter(shard=runs.shard, id__in=list(positions)):
        wanted = sorted(positions[submission.id])
        details += unpack_details(bytes(submission.details), submission.runs_count, wanted)
    return details
