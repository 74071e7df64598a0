"""Reviews of soft limits: who asked for what, and what is answered.

A hold that would exceed a soft limit opens a review, and waits for it. Further holds that reach
the same limit wait for the same review: parked, not lost. The answer decides them all at once, in
the order in which they were asked for, and stands for a time: allowed, the limit is passed over;
refused, holds beyond it are refused. After that time the limit asks again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

import msgspec
from django.db import transaction

from ledger import sql
from ledger.caps import Cap
from ledger.counting import caps_of
from ledger.deciding import Ask, Held, Round, lock
from ledger.errors import Fault, InvalidLimit, ReviewAnswered, UnknownReview
from ledger.held import HoldNow
from ledger.models import Hold, LimitReview
from ledger.reported import Instant
from ledger.units import NEVER, shard_of


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is answered, why, and until when that stands: by default to the end of the period."""

    allow: bool
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    until_at: Instant | None = None


@dataclass(frozen=True, kw_only=True)
class Review:
    """A question, and its answer if there is one. Amounts are in the limit's unit."""

    id: int
    account_id: int
    limit_id: int
    scope_value: str
    period_start: datetime
    opened_at: datetime
    used: int
    held: int
    asked: int
    waiting_count: int
    answered_at: datetime | None
    is_allowed: bool | None
    reason: str
    until_at: datetime | None


def waiting(*, account_ids: Sequence[int]) -> list[Review]:
    """Reviews that nobody has answered yet, the oldest first."""
    rows = LimitReview.objects.filter(
        shard__in={shard_of(account_id) for account_id in account_ids},
        account_id__in=list(account_ids),
        answered_at__isnull=True,
    )
    return [_review(row) for row in rows.order_by("opened_at", "id")]


def review(*, account_id: int, review_id: int) -> Review:
    """Raises UnknownReview."""
    return _review(_row(account_id, review_id))


def answer(*, account_id: int, review_id: int, answer: Answer, at: datetime) -> Review:
    """Answer a review, and decide the holds that wait for it; again, it changes nothing.

    A hold that is allowed is decided anew, by everything but this limit: it may be refused for
    want of tokens, or wait for another soft limit. Its life begins now.

    Raises UnknownReview, ReviewAnswered, and InvalidLimit.
    """
    with transaction.atomic():
        lock(account_id)
        row = _row(account_id, review_id)
        if row.answered_at is not None:
            if (row.is_allowed, row.reason) != (answer.allow, answer.reason):
                raise ReviewAnswered(review=str(review_id))
            return _review(row)
        _write_answer(row, answer, at=at)
        decided = Round.of_account(account_id, at=at)
        holds = sql.query(HoldNow, "waiting_holds", shard=row.shard, review_id=row.id)
        asks = [_ask(hold) for hold in holds]
        decided.read_counts(asks)
        for ask in asks:
            _decide_again(ask, decided, row, is_allowed=answer.allow)
        decided.counts.write()
        return review(account_id=account_id, review_id=review_id)


def _write_answer(row: LimitReview, answer: Answer, *, at: datetime) -> None:
    until_at = answer.until_at or _end_of_period(row, at=at)
    if until_at <= at:
        message = "is over already: an answer stands for a time to come"
        raise InvalidLimit(faults=[Fault(field="until_at", rule="order", message=message)])
    row.answered_at, row.is_allowed = at, answer.allow
    row.reason, row.until_at = answer.reason, until_at
    LimitReview.objects.filter(shard=row.shard, id=row.id, answered_at__isnull=True).update(
        answered_at=at, is_allowed=answer.allow, reason=answer.reason, until_at=until_at
    )


def _end_of_period(row: LimitReview, *, at: datetime) -> datetime:
    caps = caps_of([row.account_id]).get(row.account_id, [])
    cap: Cap | None = next((cap for cap in caps if cap.id == row.limit_id), None)
    end = None if cap is None else cap.next_start(cap.period_start(row.opened_at))
    if end is None:
        return NEVER
    # The period in which it was asked may be over when it is answered.
    return end if end > at else at + timedelta(days=1)


def _decide_again(ask: Ask, decided: Round, row: LimitReview, *, is_allowed: bool) -> None:
    shard = row.shard
    of_hold: dict[str, Any] = {
        "shard": shard, "account_id": ask.account_id, "run_key": ask.run_key, "at": decided.at,
    }  # fmt: skip
    if not is_allowed:
        sql.execute("refuse_hold", **of_hold, refusal=f"refused by review: {row.reason}"[:300])
        return
    decision = decided.decide(ask)
    if not isinstance(decision, Held):
        sql.execute("refuse_hold", **of_hold, refusal=str(decision)[:300])
    elif decision.review_id is not None:
        Hold.objects.filter(shard=shard, account_id=ask.account_id, run_key=ask.run_key).update(
            review_id=decision.review_id
        )
    else:
        sql.execute(
            "resume_hold",
            **of_hold,
            expires_at=decided.at + timedelta(seconds=ask.life_seconds),
            microtokens=ask.microtokens,
            micros=decision.micros,
            limit_ids=decision.limit_ids,
        )


def _ask(hold: HoldNow) -> Ask:
    return Ask(
        account_id=hold.account_id,
        account=str(hold.account_id),
        run_id=hold.run_id,
        run_key=hold.run_key,
        body_digest=hold.body_digest,
        microtokens=hold.microtokens,
        life_seconds=hold.life_seconds,
        names={
            "workflow": hold.workflow,
            "project": hold.project,
            "job": hold.job,
            "cost_centre": hold.cost_centre,
            "department": hold.department,
            "actor": hold.actor,
        },
    )


def _row(account_id: int, review_id: int) -> LimitReview:
    row = LimitReview.objects.filter(
        shard=shard_of(account_id), id=review_id, account_id=account_id
    ).first()
    if row is None:
        raise UnknownReview(review=str(review_id))
    return row


def _review(row: LimitReview) -> Review:
    holds = Hold.objects.filter(
        shard=row.shard,
        review_id=row.id,
        held_at__isnull=True,
        refused_at__isnull=True,
        released_at__isnull=True,
        captured_at__isnull=True,
    )
    return Review(
        id=row.id,
        account_id=row.account_id,
        limit_id=row.limit_id,
        scope_value=row.scope_value,
        period_start=row.period_start,
        opened_at=row.opened_at,
        used=row.used,
        held=row.held,
        asked=row.asked,
        waiting_count=holds.count(),
        answered_at=row.answered_at,
        is_allowed=row.is_allowed,
        reason=row.reason,
        until_at=row.until_at,
    )
