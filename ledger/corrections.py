"""Correct runs: void all or part of one, report that one failed after all.

Every operation takes keywords only and the time as `at`, and is done once under its key: the same
request again gives the same answer, another request under that key is refused. Each takes the
lock of the account's shard and joins the caller's transaction. What a correction moves, and how,
is in ledger.amending; what the receipt says of it, in ledger.receipts.
"""

import hashlib
import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from django.db import transaction

from ledger import sql
from ledger.accounts import AccountFacts
from ledger.amending import Amending, Written
from ledger.errors import (
    IdempotencyKeyReused,
    MoreThanIsLeft,
    OutcomeKnown,
    UnknownInference,
    UnknownRun,
)
from ledger.history import History
from ledger.models import Correction, PartedRun
from ledger.receipts import receipt
from ledger.units import Micros, Microtokens, run_key, shard_of

REASON_LENGTH_MAX: Final = 300

Fault = Literal["vendor", "customer"]


@dataclass(frozen=True, kw_only=True)
class Corrected:
    """The receipt's new version, and what the run costs more or (below 0) less."""

    version: int
    microtokens: Microtokens
    micros: Micros


def void(
    *,
    account: AccountFacts,
    run_id: str,
    microtokens: int | None = None,
    reason: str,
    idempotency_key: str,
    at: datetime,
) -> Corrected:
    """Give back this many microtokens of a run, or (None) all that is left of it.

    They go back to the lots that the run drew on, in the order in which it did; what belongs to a
    lot whose time is over expires at once.

    Raises UnknownRun, MoreThanIsLeft and IdempotencyKeyReused.
    """
    assert microtokens is None or microtokens > 0

    def correct(amending: Amending, history: History, **request: Any) -> Written:
        left = history.left_microtokens
        asked = left if microtokens is None else microtokens
        if not 0 < asked <= left:
            raise MoreThanIsLeft(run=run_id, microtokens=asked, left_microtokens=left)
        return amending.correct(history, give_back=asked, reason=reason, **request)

    return _once(
        correct,
        kind=Correction.Kind.VOID,
        account=account,
        run_id=run_id,
        key=idempotency_key,
        asked=[microtokens, reason],
        at=at,
    )


def report_outcome(
    *,
    account: AccountFacts,
    run_id: str,
    fault: Fault,
    used_microtokens: int | None = None,
    used_inferences: Sequence[int] | None = None,
    reason: str,
    idempotency_key: str,
    at: datetime,
) -> Corrected:
    """Say that a run failed, and whose fault it was.

    The vendor's fault costs nothing: all that is left of the run is given back. The customer's
    costs what was used: `used_microtokens`, or what the inferences at these positions of the
    receipt cost, or (None) everything. Of a run that failed by the customer's fault it may still
    be said that it was the vendor's.

    Raises UnknownRun, OutcomeKnown, MoreThanIsLeft, UnknownInference and IdempotencyKeyReused.
    """
    assert used_microtokens is None or used_inferences is None

    def correct(amending: Amending, history: History, **request: Any) -> Written:
        if history.was_waived or (history.has_failed and fault == "customer"):
            raise OutcomeKnown(run=run_id, fault=history.fault)
        used = used_microtokens
        if used_inferences is not None:
            used = _used(account, run_id, used_inferences)
        left = history.left_microtokens
        stays = 0 if fault == "vendor" else left if used is None else used
        if stays > left:
            raise MoreThanIsLeft(run=run_id, microtokens=stays, left_microtokens=left)
        if fault == "vendor" and history.is_in_parts:
            _waive(history, at=at)
        return amending.correct(
            history, give_back=left - stays, outcome="failed", fault=fault, reason=reason, **request
        )

    return _once(
        correct,
        kind=Correction.Kind.OUTCOME,
        account=account,
        run_id=run_id,
        key=idempotency_key,
        asked=[fault, used_microtokens, used_inferences, reason],
        at=at,
    )


def _once(
    correct: Callable[..., Written],
    *,
    kind: str,
    account: AccountFacts,
    run_id: str,
    key: str,
    asked: list[Any],
    at: datetime,
) -> Corrected:
    digest = _digest([run_id, *asked])
    with transaction.atomic():
        sql.lock_shard(account.shard)
        known = Correction.objects.filter(
            shard=account.shard, account_id=account.id, kind=kind, operation_key=key
        ).first()
        if known is not None:
            if known.digest != digest:
                raise IdempotencyKeyReused(account_id=account.id, idempotency_key=key)
            return _corrected(known)
        name = (account.id, run_key(run_id))
        amending = Amending(shard=account.shard, names=[name], at=at)
        if name not in amending.histories:
            raise UnknownRun(account=account.code, run=run_id)
        request = {"kind": str(kind), "operation_key": key, "digest": digest}
        correct(amending, amending.histories[name], **request)
        [written] = amending.write()
        return _corrected(written)


def _used(account: AccountFacts, run_id: str, positions: Sequence[int]) -> int:
    inferences = receipt(account=account, run_id=run_id).inferences
    for position in positions:
        if not 0 <= position < len(inferences):
            raise UnknownInference(run=run_id, position=position, count=len(inferences))
    return sum(inferences[position].microtokens for position in set(positions))


def _waive(history: History, *, at: datetime) -> None:
    """Parts that come later are the vendor's fault, too."""
    account_id, key = history.name
    PartedRun.objects.filter(
        shard=shard_of(account_id), account_id=account_id, run_key=key, waived_at__isnull=True
    ).update(waived_at=at)


def _corrected(of: Correction | Written) -> Corrected:
    return Corrected(
        version=of.version,
        microtokens=Microtokens(of.microtokens),
        micros=Micros(of.micros),
    )


def _digest(asked: list[Any]) -> uuid.UUID:
    """What was asked for, in 16 bytes."""
    return uuid.UUID(bytes=hashlib.sha256(json.dumps(asked).encode()).digest()[:16])
