"""Reviews of soft limits: who asked for what, and what is answered.

A hold that would exceed a soft limit opens a review, and waits for it. Further holds that reach
the same limit wait for the same review: parked, not lost. The answer decides them all at once, in
the order in which they were asked for, and stands for a time: allowed, the limit is passed over;
refused, holds beyond it are refused. After that time the limit asks again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Final

import msgspec
from django.db import transaction

from ledger import sql
from ledger.caps import Cap
from ledger.counting import Count, Counts, caps_of
from ledger.deciding import Ask, Held, Round, lock
from ledger.errors import Fault, InvalidLimit, ReviewAnswered, UnknownReview
from ledger.foreseen import overage_now
from ledger.held import HoldNow
from ledger.holds import available
from ledger.instants import MICROSECOND
from ledger.models import Hold, LimitReview
from ledger.reported import Instant
from ledger.units import NEVER, shard_of

# Of a period, at least one part of so many must be over to say how it goes on.
_PACE_PARTS: Final = 10
_REFUSAL_MAX: Final = 300  # characters


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is answered, why, and until when that stands: by default to the end of the period."""

    allow: bool
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    until_at: Instant | None = None


@dataclass(frozen=True, kw_only=True)
class Review:
    """A question, and its answer if there is one. Amounts are in the limit's unit.

    `run` and the names are those of the hold that reached the limit; `used`, `held` and `asked`
    stood so when it did.
    """

    id: int
    account_id: int
    limit_id: int
    scope: str
    scope_value: str
    period: str
    unit: str
    cap: int
    period_start: datetime
    opened_at: datetime
    run: str
    workflow: str
    project: str
    job: str
    cost_centre: str
    department: str
    actor: str
    used: int
    held: int
    asked: int
    waiting_count: int
    waiting_microtokens: int
    answered_at: datetime | None
    is_allowed: bool | None
    reason: str
    until_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What becomes of the holds that wait; and then of the limit (in its unit) and the balance."""

    held_count: int
    refused_count: int
    waiting_count: int  # for the review of another limit
    used: int
    held: int
    available_microtokens: int


@dataclass(frozen=True, kw_only=True)
class Projection:
    """Where a limit is going, and what either answer to its review would do.

    `expected_use` is what will be used by the end of the present period if things go on as they
    have in it so far, in the limit's unit. None: the period has no end, or less than a tenth of it
    is over, which says too little.
    """

    period_ends_at: datetime | None
    expected_use: int | None
    if_allowed: Effect
    if_refused: Effect


def waiting(*, account_ids: Sequence[int]) -> list[Review]:
    """Reviews that nobody has answered yet, the oldest first."""
    shards = sorted({shard_of(account_id) for account_id in account_ids})
    return sql.query(
        Review, "reviews", shards=shards, account_ids=list(account_ids), review_id=None
    )


def review(*, account_id: int, review_id: int) -> Review:
    """Raises UnknownReview."""
    found = sql.query(
        Review,
        "reviews",
        shards=[shard_of(account_id)],
        account_ids=[account_id],
        review_id=review_id,
    )
    for one in found:
        return one
    raise UnknownReview(review=str(review_id))


def project(*, account_id: int, review_id: int, at: datetime) -> Projection:
    """What either answer would do if it were given now, to the end of the limit's period.

    Each is given by `answer` itself, and undone: so nothing is said here that would come out
    otherwise, and nothing is written. The account waits meanwhile as for two answers. Raises
    UnknownReview, and ReviewAnswered.
    """
    asked = review(account_id=account_id, review_id=review_id)
    if asked.answered_at is not None:
        raise ReviewAnswered(review=str(review_id))
    cap = _cap(account_id, asked.limit_id)
    start = None if cap is None else cap.period_start(at)
    ends_at = None if cap is None or start is None else cap.next_start(start)
    use = _use(asked, start, at=at)
    return Projection(
        period_ends_at=ends_at,
        expected_use=_at_this_pace(use.used, start, ends_at, at=at),
        if_allowed=_effect(asked, start, is_allowed=True, at=at),
        if_refused=_effect(asked, start, is_allowed=False, at=at),
    )


def _effect(asked: Review, start: datetime | None, *, is_allowed: bool, at: datetime) -> Effect:
    holds = Hold.objects.filter(shard=shard_of(asked.account_id), account_id=asked.account_id)
    with transaction.atomic():
        lock(asked.account_id)
        waited = list(
            holds.filter(review_id=asked.id, held_at=None, refused_at=None, released_at=None)
            .filter(captured_at=None)
            .values_list("run_key", flat=True)
        )
        what_if = Answer(allow=is_allowed, reason="what if")
        answer(account_id=asked.account_id, review_id=asked.id, answer=what_if, at=at)
        decided = holds.filter(run_key__in=waited)
        held_count = decided.filter(held_at__isnull=False).count()
        refused_count = decided.filter(refused_at__isnull=False).count()
        use = _use(asked, start, at=at)
        now = available(account_ids=[asked.account_id], at=at)[asked.account_id]
        transaction.set_rollback(True)
    return Effect(
        held_count=held_count,
        refused_count=refused_count,
        waiting_count=len(waited) - held_count - refused_count,
        used=use.used,
        held=use.held,
        available_microtokens=now.available_microtokens,
    )


def _use(asked: Review, start: datetime | None, *, at: datetime) -> Count:
    """What stands on the limit in its present period; nothing ever does on one for each run."""
    counts = Counts()
    if asked.unit == "overage":
        return overage_now(asked.account_id, at=at)
    if start is None:
        return Count()
    counter = (asked.limit_id, asked.scope_value, start)
    counts.read([counter])
    return counts.standing[counter]


def _at_this_pace(
    used: int, start: datetime | None, ends_at: datetime | None, *, at: datetime
) -> int | None:
    if start is None or ends_at is None or (at - start) * _PACE_PARTS < ends_at - start:
        return None
    return used * ((ends_at - start) // MICROSECOND) // ((at - start) // MICROSECOND)


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
            return review(account_id=account_id, review_id=review_id)
        _write_answer(row, answer, at=at)
        decided = Round.of_account(account_id, at=at)
        holds = sql.query(HoldNow, "waiting_holds", shard=row.shard, review_id=row.id)
        asks = [_ask(hold) for hold in holds]
        if answer.allow:
            _decide_again(asks, decided, row)
        else:
            refusal = f"refused by review: {row.reason}"
            _refuse(row, [(ask, refusal) for ask in asks], at=at)
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
    cap = _cap(row.account_id, row.limit_id)
    end = None if cap is None else cap.next_start(cap.period_start(row.opened_at))
    if end is None:
        return NEVER
    # The period in which it was asked may be over when it is answered.
    return end if end > at else at + timedelta(days=1)


def _cap(account_id: int, limit_id: int) -> Cap | None:
    """None: it is ended."""
    caps = caps_of([account_id]).get(account_id, [])
    return next((cap for cap in caps if cap.id == limit_id), None)


def _decide_again(asks: Sequence[Ask], decided: Round, row: LimitReview) -> None:
    """In the order of asking; what was decided is written in a few statements, however many."""
    decided.read_counts(asks)
    decisions = [(ask, decided.decide(ask)) for ask in asks]
    decided.counts.write()
    refused = [(ask, str(one)) for ask, one in decisions if not isinstance(one, Held)]
    _refuse(row, refused, at=decided.at)
    held = [one for _, one in decisions if isinstance(one, Held)]
    _resume(row, [one for one in held if one.review_id is None], at=decided.at)
    for review_id in sorted({one.review_id for one in held if one.review_id is not None}):
        keys = [one.ask.run_key for one in held if one.review_id == review_id]
        Hold.objects.filter(shard=row.shard, account_id=row.account_id, run_key__in=keys).update(
            review_id=review_id
        )


def _refuse(row: LimitReview, refused: Sequence[tuple[Ask, str]], *, at: datetime) -> None:
    sql.execute(
        "refuse_holds",
        shard=row.shard,
        account_id=row.account_id,
        at=at,
        run_keys=[ask.run_key for ask, _ in refused],
        refusals=[refusal[:_REFUSAL_MAX] for _, refusal in refused],
    )


def _resume(row: LimitReview, held: Sequence[Held], *, at: datetime) -> None:
    sql.execute(
        "resume_holds",
        shard=row.shard,
        account_id=row.account_id,
        at=at,
        run_keys=[one.ask.run_key for one in held],
        expires_at=[at + timedelta(seconds=one.ask.life_seconds) for one in held],
        microtokens=[one.ask.microtokens for one in held],
        micros=[one.micros for one in held],
        limit_ids=[sql.array(one.limit_ids) for one in held],
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
