"""Set limits, end them, and see how they stand.

A limit caps what an account, or each or one of its actors, workflows, projects, jobs or cost
centres, may use in a period, in tokens or in money; or what each run may. Holds are decided by it
(ledger.deciding), and every debit counts on it, also one that exceeds it: that is written down as
an excess, as work that has happened is never refused.

Hard means that a hold beyond it is refused. Soft means that somebody is asked (ledger.reviews). A
limit is never changed: it is ended, and another takes its place. It counts whole periods: set in
the middle of a month, a monthly limit knows what was used in that month before. It binds holds that
are asked for after it was set; what was held before counts on it when it is debited.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec
from django.db import transaction
from django.db.models import F

from ledger import sql
from ledger.caps import Cap
from ledger.counting import Counts, caps_of
from ledger.deciding import lock
from ledger.errors import Fault, IdempotencyKeyReused, InvalidLimit, UnknownLimit
from ledger.foreseen import overage_now
from ledger.models import Account, Hold, Limit, LimitExcess, LimitUse, Standing
from ledger.past_use import PastUse
from ledger.reported import Instant
from ledger.units import SHARDS, shard_of

LIMITS_PER_ACCOUNT_MAX: Final = 1_000
CAP_MAX: Final = 1_000_000_000_000_000_000
EXCESSES_LISTED_MAX: Final = 100


class NewLimit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A limit to be set. Without a `value` it caps each value of its scope by itself.

    `cap` is in microtokens, or in micros of the account's currency. In the unit `overage` it caps
    what the whole account uses in a term beyond its prepaid lots, in microtokens. Without dates it
    is in force from now on; a limit of the period `term` has an end, and counts from its own
    beginning to it.
    """

    scope: Literal["run", "actor", "workflow", "project", "job", "cost_centre", "account"]
    period: Literal["run", "day", "month", "term"]
    cap: Annotated[int, msgspec.Meta(ge=0, le=CAP_MAX)]
    hard: bool
    value: Annotated[str, msgspec.Meta(max_length=100)] = ""
    unit: Literal["tokens", "money", "overage"] = "tokens"
    effective_at: Instant | None = None
    until_at: Instant | None = None


@dataclass(frozen=True, kw_only=True)
class Use:
    """What stands on a limit for one value of its scope in one period."""

    scope_value: str
    period_start: datetime
    used: int
    held: int


@dataclass(frozen=True, kw_only=True)
class LimitNow(Cap):
    """A limit, and how it stands in its present period."""

    set_at: datetime
    ended_at: datetime | None
    uses: list[Use]


@dataclass(frozen=True, kw_only=True)
class Excess:
    """A run that was debited beyond a limit."""

    limit_id: int
    run_key: str
    scope_value: str
    period_start: datetime
    used_before: int
    used_after: int
    recorded_at: datetime


def set_limit(*, account_id: int, limit: NewLimit, idempotency_key: str, at: datetime) -> LimitNow:
    """Set a limit; the same request again gives the same limit.

    Reads every run of the account if the limit has a period, nearly all of them before debits of
    its shard have to wait. Raises InvalidLimit, and IdempotencyKeyReused.
    """
    shard = shard_of(account_id)
    with transaction.atomic():
        known = _known(account_id, limit, idempotency_key)
        past = None if known else _past_use(account_id, limit, at=at).read_ahead()
        # No debit between reading what was used and being told of what is used.
        sql.lock_shard(shard)
        lock(account_id)
        known = _known(account_id, limit, idempotency_key)
        if known is not None:
            return limit_now(account_id=account_id, limit_id=known.id, at=at)
        _check(account_id, limit, at=at)
        assert past is not None, "what was known stays known"
        limit_id = _create(account_id, limit, idempotency_key=idempotency_key, past=past, at=at)
        return limit_now(account_id=account_id, limit_id=limit_id, at=at)


def end_limit(*, account_id: int, limit_id: int, at: datetime) -> LimitNow:
    """From now on it refuses nothing and counts nothing. Again, it changes nothing.

    Raises UnknownLimit.
    """
    shard = shard_of(account_id)
    with transaction.atomic():
        lock(account_id)
        ended = Limit.objects.filter(
            shard=shard, id=limit_id, account_id=account_id, ended_at__isnull=True
        ).update(ended_at=at)
        Standing.objects.filter(shard=shard, account_id=account_id).update(
            limits_count=F("limits_count") - ended
        )
        return limit_now(account_id=account_id, limit_id=limit_id, at=at)


def limit_now(*, account_id: int, limit_id: int, at: datetime) -> LimitNow:
    """Raises UnknownLimit."""
    rows = Limit.objects.filter(shard=shard_of(account_id), id=limit_id, account_id=account_id)
    for limit in _now(account_id, list(rows), at=at):
        return limit
    raise UnknownLimit(limit=str(limit_id))


def limits(*, account_id: int, at: datetime) -> list[LimitNow]:
    """The account's limits that are not ended, with what is used and held of each."""
    rows = Limit.objects.filter(
        shard=shard_of(account_id), account_id=account_id, ended_at__isnull=True
    )
    return _now(account_id, list(rows.order_by("id")), at=at)


def excesses(*, account_id: int) -> list[Excess]:
    """Runs of the account that were debited beyond a limit, the latest first."""
    rows = LimitExcess.objects.filter(shard=shard_of(account_id), account_id=account_id)
    return [
        Excess(
            limit_id=row.limit_id,
            run_key=str(row.run_key),
            scope_value=row.scope_value,
            period_start=row.period_start,
            used_before=row.used_before,
            used_after=row.used_after,
            recorded_at=row.recorded_at,
        )
        for row in rows.order_by("-recorded_at")[:EXCESSES_LISTED_MAX]
    ]


def _check(account_id: int, limit: NewLimit, *, at: datetime) -> None:
    effective_at = limit.effective_at or at
    shard = shard_of(account_id)
    count = Standing.objects.get(shard=shard, account_id=account_id).limits_count
    rules = (
        (limit.scope == "run" and limit.period != "run", "period", "period_of_run",
         "is 'run' for a limit on each run"),
        (limit.scope in ("run", "account") and limit.value != "", "value", "value_of_all",
         "names nothing: a limit on each run, or on the account, has no value"),
        (limit.unit == "overage" and (limit.scope, limit.period) != ("account", "term"), "unit",
         "overage_of_account", "is 'overage' only for a limit on the account, for a term"),
        (limit.period == "term" and limit.until_at is None, "until_at", "term_has_an_end",
         "is missing: a term has an end"),
        (limit.until_at is not None and limit.until_at <= effective_at, "until_at", "order",
         "is not after the beginning"),
        ("\x00" in limit.value, "value", "text", "has a NUL character"),
        (count >= LIMITS_PER_ACCOUNT_MAX, "account", "limits_count",
         f"has {LIMITS_PER_ACCOUNT_MAX:,} limits already"),
    )  # fmt: skip
    faults = [
        Fault(field=field, rule=rule, message=message)
        for is_broken, field, rule, message in rules
        if is_broken
    ]
    if faults:
        raise InvalidLimit(faults=faults)


def _known(account_id: int, limit: NewLimit, idempotency_key: str) -> Limit | None:
    """The limit that was set under this key. Raises IdempotencyKeyReused."""
    known = Limit.objects.filter(
        shard=shard_of(account_id), account_id=account_id, idempotency_key=idempotency_key
    ).first()
    if known is not None and not _is_same(known, limit):
        raise IdempotencyKeyReused(account_id=account_id, idempotency_key=idempotency_key)
    return known


def _create(
    account_id: int, limit: NewLimit, *, idempotency_key: str, past: PastUse, at: datetime
) -> int:
    shard = shard_of(account_id)
    [(number,)] = sql.rows("next_limit_number")
    row = _row(account_id, limit, at=at)
    row.id = number * SHARDS + shard
    row.idempotency_key = idempotency_key
    row.save(force_insert=True)
    Standing.objects.filter(shard=shard, account_id=account_id).update(
        limits_count=F("limits_count") + 1
    )
    caps = [cap for cap in caps_of([account_id])[account_id] if cap.id == row.id]
    _count_what_was_used([cap for cap in caps if _is_counted(cap)], past)
    return row.id


def _is_counted(cap: Cap) -> bool:
    return cap.period != "run" and cap.unit != "overage"


def _row(account_id: int, limit: NewLimit, *, at: datetime) -> Limit:
    return Limit(
        id=0,
        shard=shard_of(account_id),
        account_id=account_id,
        scope=limit.scope,
        scope_value=limit.value,
        period=limit.period,
        unit=limit.unit,
        cap=limit.cap,
        is_hard=limit.hard,
        effective_at=limit.effective_at or at,
        until_at=limit.until_at,
        set_at=at,
    )


def _past_use(account_id: int, limit: NewLimit, *, at: datetime) -> PastUse:
    """For a limit that is yet to be set."""
    cap = _cap(_row(account_id, limit, at=at), _time_zone(account_id))
    return PastUse.for_caps(account_id, [cap] if _is_counted(cap) else [])


def past_use(*, account_id: int, time_zone: str) -> PastUse:
    """What `count_anew` will count if the account moves there: read ahead."""
    caps = [replace(cap, time_zone=time_zone) for cap in _by_day_and_month(account_id)]
    return PastUse.for_caps(account_id, caps).read_ahead()


def count_anew(*, account_id: int, past: PastUse) -> None:
    """Count everything again on the account's limits by day and month, as these begin now.

    Whoever calls it has locked the shard and the account.
    """
    caps = _by_day_and_month(account_id)
    if not caps:
        return
    limit_ids = [cap.id for cap in caps]
    LimitUse.objects.filter(shard=shard_of(account_id), limit_id__in=limit_ids).delete()
    _count_what_was_used(caps, past)
    _count_what_is_held(account_id, caps)


def _by_day_and_month(account_id: int) -> list[Cap]:
    return [cap for cap in caps_of([account_id])[account_id] if cap.period in ("day", "month")]


def _count_what_is_held(account_id: int, caps: Sequence[Cap]) -> None:
    counts = Counts()
    for hold in Hold.objects.filter(
        shard=shard_of(account_id), account_id=account_id, due_at__isnull=False
    ):
        for cap in caps:
            if cap.id in hold.limit_ids and (value := cap.value_of(vars(hold))) is not None:
                assert hold.held_at is not None
                counter = (cap.id, value, cap.period_start(hold.held_at))
                counts.hold(counter, cap.amount(hold.counted_microtokens, hold.counted_micros))
    counts.write()


def _count_what_was_used(caps: Sequence[Cap], past: PastUse) -> None:
    if not caps:
        return
    if not past.serves(caps):
        # The account has moved since, or has another limit: all is read again.
        past = PastUse.for_caps(past.account_id, caps)
    past.read()
    counts = Counts()
    for cap in caps:
        for used in past.rows:
            if cap.counts(used.occurred_at) and (value := cap.value_of(vars(used))) is not None:
                counter = (cap.id, value, cap.period_start(used.occurred_at))
                counts.use(counter, cap.amount(used.microtokens, used.micros))
    counts.write()


def _is_same(known: Limit, limit: NewLimit) -> bool:
    return (
        known.scope, known.scope_value, known.period, known.unit, known.cap, known.is_hard,
        known.effective_at, known.until_at,
    ) == (
        limit.scope, limit.value, limit.period, limit.unit, limit.cap, limit.hard,
        limit.effective_at or known.set_at, limit.until_at,
    )  # fmt: skip


def _now(account_id: int, rows: Sequence[Limit], *, at: datetime) -> list[LimitNow]:
    shard = shard_of(account_id)
    time_zone = _time_zone(account_id)
    found = []
    for row in rows:
        cap = _cap(row, time_zone)
        start = cap.period_start(at)
        uses = LimitUse.objects.filter(shard=shard, limit_id=row.id, period_start=start)
        standing = list(uses.order_by("scope_value"))
        if cap.unit == "overage":
            now = overage_now(account_id, at=at)
            standing = [LimitUse(scope_value="", period_start=start, used=now.used, held=now.held)]
        found.append(_limit_now(row, cap, standing))
    return found


def _time_zone(account_id: int) -> str:
    accounts = Account.objects.filter(shard=shard_of(account_id), id=account_id)
    return accounts.values_list("time_zone", flat=True).get()


def _cap(row: Limit, time_zone: str) -> Cap:
    return Cap(
        id=row.id,
        account_id=row.account_id,
        scope=row.scope,
        scope_value=row.scope_value,
        period=row.period,
        unit=row.unit,
        cap=row.cap,
        is_hard=row.is_hard,
        effective_at=row.effective_at,
        until_at=row.until_at,
        time_zone=time_zone,
    )


def _limit_now(row: Limit, cap: Cap, uses: Sequence[LimitUse]) -> LimitNow:
    return LimitNow(
        **vars(cap),
        set_at=row.set_at,
        ended_at=row.ended_at,
        uses=[
            Use(
                scope_value=use.scope_value,
                period_start=use.period_start,
                used=use.used,
                held=use.held,
            )
            for use in uses
        ],
    )
