"""What a debit means for the holds and limits of its accounts.

The debit has the accounts' rows locked: nobody decides on a hold between the tokens being taken
and the hold being given back, and both are seen at once.

A limit counts what was debited. A correction later on moves tokens, not the count: the work was
done within that period, and a limit that was passed stays passed.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np

from ledger import sql
from ledger.caps import Cap
from ledger.counting import Counter, Counts, EndedHold, caps_of, give_back
from ledger.instants import from_us, to_us
from ledger.models import Attribution, LimitExcess, Standing
from ledger.packing import IN_PARTS, LAST_PART, Integers, Rows
from ledger.units import NEVER

_NAMES: Final = ("workflow", "project", "job", "cost_centre", "actor")


def settle(*, shard: int, runs: Rows, micros: Integers, at: datetime) -> None:
    """Settle the holds of debited runs, and count the runs on their accounts' limits.

    Called in the debit's transaction with those RUN rows whose account has open holds or limits,
    and with what each cost in money. The caller holds the shard's lock.
    """
    ids = np.unique(runs["account_id"]).tolist()
    watched = Standing.objects.filter(shard=shard, account_id__in=ids)
    rows = list(watched.values_list("account_id", "open_holds_count", "limits_count"))
    holding = {account_id: count for account_id, count, _ in rows if count}
    caps = caps_of(account_id for account_id, _, limits_count in rows if limits_count)
    counts = Counts()
    ended = _settle_holds(shard, runs, micros, holding, at=at) if holding else []
    give_back(ended, counts=counts, caps=caps)
    if caps:
        _count(shard, runs, micros, caps, counts, at=at)
    counts.write()


def _settle_holds(
    shard: int, runs: Rows, micros: Integers, holding: dict[int, int], *, at: datetime
) -> list[EndedHold]:
    settled = _by_run(runs, micros, _awaited(shard, runs, holding))
    if not settled:
        return []
    return sql.query(
        EndedHold,
        "settle_holds",
        shard=shard,
        at=at,
        account_ids=sql.array(account_id for account_id, _ in settled),
        run_keys=sql.array(key.hex() for _, key in settled),
        microtokens=sql.array(one.microtokens for one in settled.values()),
        micros=sql.array(one.micros for one in settled.values()),
        are_ended=sql.array(one.is_ended for one in settled.values()),
    )


def _awaited(shard: int, runs: Rows, holding: dict[int, int]) -> list[int]:
    """The rows of runs that may have a hold."""
    rows: list[int] = np.flatnonzero(np.isin(runs["account_id"], list(holding))).tolist()
    if sum(holding.values()) > 4 * len(rows):
        return rows
    # Few holds, many runs: look for the holds among the runs.
    awaited = sql.rows("awaited_runs", shard=shard, account_ids=sql.array(holding))
    keys = {run_key.bytes for (run_key,) in awaited}
    run_keys = runs["run_key"].tolist()
    return [row for row in rows if run_keys[row] in keys]


@dataclass(slots=True)
class _Cost:
    """What a run cost in this block, and whether it has ended with it."""

    microtokens: int = 0
    micros: int = 0
    is_ended: bool = False


def _by_run(runs: Rows, micros: Integers, rows: list[int]) -> dict[tuple[int, bytes], _Cost]:
    costs: dict[tuple[int, bytes], _Cost] = {}
    picked = runs[rows]
    for account_id, key, part, flags, microtokens, money in zip(
        *(picked[name].tolist() for name in ("account_id", "run_key", "part", "flags")),
        picked["microtokens"].tolist(),
        micros[rows].tolist(),
        strict=True,
    ):
        cost = costs.setdefault((account_id, key), _Cost())
        cost.microtokens += microtokens
        cost.micros += money
        is_whole = part == 0 and not flags & IN_PARTS
        cost.is_ended = cost.is_ended or is_whole or bool(flags & LAST_PART)
    return costs


@dataclass(frozen=True, kw_only=True, slots=True)
class _Use:
    """What one run, or part of one, uses of one limit."""

    cap: Cap
    counter: Counter
    amount: int
    run_key: uuid.UUID
    part: int


def _count(
    shard: int,
    runs: Rows,
    micros: Integers,
    caps: Mapping[int, list[Cap]],
    counts: Counts,
    *,
    at: datetime,
) -> None:
    limited = np.flatnonzero(np.isin(runs["account_id"], list(caps)))
    names = _names(shard, runs[limited])
    uses = [
        use
        for begin, end in _accounts(runs[limited])
        for use in _uses(runs[limited[begin:end]], micros[limited[begin:end]], caps, names)
    ]
    per_run = [use for use in uses if use.cap.period == "run"]
    counted = [use for use in uses if use.cap.period != "run"]
    counts.read(use.counter for use in counted)
    excess = list(_beyond(counted, counts)) + list(_beyond_per_run(shard, per_run))
    if excess:
        _write_excess(excess, shard=shard, at=at)


def _accounts(runs: Rows) -> Iterator[tuple[int, int]]:
    """Where each account's runs begin and end."""
    begins = np.flatnonzero(np.diff(runs["account_id"], prepend=-1)).tolist()
    return zip(begins, [*begins[1:], len(runs)], strict=True)


def _uses(
    runs: Rows,
    micros: Integers,
    caps: Mapping[int, list[Cap]],
    names: Mapping[tuple[int, bytes], Mapping[str, str]],
) -> Iterator[_Use]:
    """Of the runs of one account, limit by limit, in order of arrival."""
    columns = ("account_id", "attribution_key", "occurred_at_us", "run_key", "part", "microtokens")
    rows = list(zip(*(runs[name].tolist() for name in columns), micros.tolist(), strict=True))
    for cap in caps.get(rows[0][0], ()):
        period = _Period(cap)
        values: dict[bytes, str | None] = {}
        for account_id, who, occurred_at_us, key, part, microtokens, money in rows:
            if who not in values:
                values[who] = cap.value_of(names[account_id, who])
            value, amount = values[who], cap.amount(microtokens, money)
            if value is None or amount == 0 or not period.counts(occurred_at_us):
                continue
            yield _Use(
                cap=cap,
                counter=(cap.id, value, period.start),
                amount=amount,
                run_key=uuid.UUID(bytes=key),
                part=part,
            )


class _Period:
    """The period of the run before: mostly also that of the next."""

    def __init__(self, cap: Cap) -> None:
        self.cap = cap
        self.start = cap.counts_from
        self.begins_us = self.ends_us = 0

    def counts(self, occurred_at_us: int) -> bool:
        """Whether the limit counts a run of this time; `start` is then its period's."""
        if self.begins_us <= occurred_at_us < self.ends_us:
            return True
        occurred_at = from_us(occurred_at_us)
        if not self.cap.counts(occurred_at):
            return False
        self.start = self.cap.period_start(occurred_at)
        ends = (self.cap.next_start(self.start), self.cap.until_at)
        self.begins_us = to_us(max(self.start, self.cap.counts_from))
        self.ends_us = to_us(min((end for end in ends if end is not None), default=NEVER))
        return True


def _beyond(uses: Sequence[_Use], counts: Counts) -> Iterator[tuple[_Use, int]]:
    """Count; those uses that end beyond their cap, with what was used before each.

    In money a run may use less than nothing (overage by volume): it takes nothing beyond a cap.
    """
    for use in uses:
        before = counts.standing[use.counter].used + counts.added[use.counter].used
        counts.use(use.counter, use.amount)
        if before + use.amount > use.cap.cap and use.amount > 0:
            yield use, before


def _beyond_per_run(shard: int, uses: Sequence[_Use]) -> Iterator[tuple[_Use, int]]:
    """A run that comes in parts has used what its parts before cost."""
    parted = {(use.cap.account_id, use.run_key) for use in uses if use.part}
    before: dict[tuple[int, uuid.UUID], int] = {}
    if parted:
        before = _cost_before(shard, uses, parted)
    for use in uses:
        run = (use.cap.id, use.run_key)
        used = before.get(run, 0)
        before[run] = used + use.amount
        if used + use.amount > use.cap.cap and use.amount > 0:
            yield use, used


def _cost_before(
    shard: int, uses: Sequence[_Use], parted: set[tuple[int, uuid.UUID]]
) -> dict[tuple[int, uuid.UUID], int]:
    """What parted runs had cost before this block, limit by limit; its own rows stand already."""
    totals = {
        (account_id, run_key): (microtokens, micros)
        for account_id, run_key, microtokens, micros in sql.rows(
            "cost_of_runs",
            shard=shard,
            account_ids=[account_id for account_id, _ in sorted(parted)],
            run_keys=[run_key for _, run_key in sorted(parted)],
        )
    }
    before: dict[tuple[int, uuid.UUID], int] = {}
    for use in uses:
        if (run := (use.cap.account_id, use.run_key)) in totals:
            key = (use.cap.id, use.run_key)
            if key not in before:
                before[key] = use.cap.amount(*totals[run])
            before[key] -= use.amount
    return before


def _names(shard: int, runs: Rows) -> dict[tuple[int, bytes], dict[str, str]]:
    """Who the runs are for, by account and key."""
    pairs = zip(runs["account_id"].tolist(), runs["attribution_key"].tolist(), strict=True)
    keys = sorted(set(pairs))
    rows = Attribution.objects.filter(
        shard=shard,
        account_id__in={account_id for account_id, _ in keys},
        key__in={uuid.UUID(bytes=key) for _, key in keys},
    )
    return {
        (row["account_id"], row["key"].bytes): {name: row[name] for name in _NAMES}
        for row in rows.values("account_id", "key", *_NAMES)
    }


def _write_excess(excess: Sequence[tuple[_Use, int]], *, shard: int, at: datetime) -> None:
    LimitExcess.objects.bulk_create(
        (
            LimitExcess(
                shard=shard,
                limit_id=use.cap.id,
                account_id=use.cap.account_id,
                run_key=use.run_key,
                part=use.part,
                scope_value=use.counter[1],
                period_start=use.counter[2],
                used_before=before,
                used_after=before + use.amount,
                recorded_at=at,
            )
            for use, before in excess
        ),
        batch_size=1_000,
    )
