"""Deciding holds: as many as wait, in one transaction, in a few statements.

The accounts' rows are locked; then, account by account in the order of asking, a hold succeeds if

    what is available (prepaid lots that serve now, and overage up to its cap) - what is held

covers it, and every limit on the way from the run up to the account allows it. An account whose
payment is overdue gets none (ledger.overdue). A hard limit refuses. A soft one has somebody asked:
the hold is written but holds nothing, and waits for the answer (ledger.reviews).

What is held is counted on the account, without holds whose deadline has passed: their time is let
pass first. The debit settles a hold in the transaction that takes its tokens, so at no moment are
tokens neither held nor spent.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, NamedTuple

import msgspec
import numpy as np

from ledger import foreseen, queries, sql
from ledger.caps import Cap
from ledger.counting import Count, Counter, Counts, EndedHold, caps_of, give_back
from ledger.errors import (
    HoldConflict,
    InsufficientTokens,
    LedgerError,
    LimitReached,
    PaymentOverdue,
    RunDebited,
)
from ledger.foreseen import NO_COST, Cost
from ledger.held import HoldKey, HoldNow, known
from ledger.models import LimitReview
from ledger.packing import PackedArray, bigints
from ledger.units import NEVER, shard_of

# How long a run is awaited that comes after its hold has lapsed or was released.
WATCHED: Final = timedelta(days=1)

_WRITTEN: Final = (
    "account_id", "run_key", "run_id", "body_digest", "microtokens", "micros", "workflow",
    "project", "job", "cost_centre", "department", "actor", "life_seconds", "expires_at", "due_at",
    "review_id",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """A hold that is asked for, checked and priced."""

    account_id: int
    account: str
    run_id: str
    run_key: uuid.UUID
    body_digest: int
    microtokens: int
    life_seconds: int
    names: Mapping[str, str]  # who the run is for: workflow, project, job …

    @property
    def key(self) -> HoldKey:
        return (self.account_id, self.run_key)


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """The decision on one ask: tokens are held, or the hold waits for the review `review_id`."""

    ask: Ask
    micros: int
    limit_ids: list[int]
    review_id: int | None


Decision = Held | LedgerError


@dataclass(kw_only=True, slots=True)
class _Account:
    """An account as it stands while asks are decided one after the other."""

    id: int
    spendable: int
    held: int
    is_overdue: bool
    caps: list[Cap]
    lots: list[queries.LotNow] = field(default_factory=list)


class _Locked(NamedTuple):
    """A row of hold_accounts.sql and hold_account.sql."""

    id: int
    held_microtokens: int
    limits_count: int
    is_overdue: bool


def lock(account_id: int) -> None:
    """Wait for an account, and be the only one who decides on it."""
    sql.rows("hold_account", shards=[shard_of(account_id)], account_ids=[account_id])


class Round:
    """What one transaction decides. Made with the accounts locked that it decides on."""

    def __init__(
        self,
        rows: Sequence[_Locked],
        now: Mapping[int, "_Spendable"],
        found: Sequence["_Known"],
        *,
        at: datetime,
    ) -> None:
        """`found` is what is there already of the asks that are to be decided."""
        self.at = at
        self.found = found
        self.counts = Counts()
        # Of each limit, value of its scope and period that was reached: what is answered, if asked.
        self._reviews: dict[Counter, LimitReview | None] = {}
        ids = [row.id for row in rows]
        caps = caps_of(row.id for row in rows if row.limits_count)
        self.accounts = {
            row.id: _Account(
                id=row.id,
                spendable=int(now[row.id].spendable_microtokens),
                held=row.held_microtokens,
                is_overdue=row.is_overdue,
                caps=[cap for cap in caps.get(row.id, ()) if cap.in_force(at)],
            )
            for row in rows
        }
        for ended in let_time_pass([one for one in ids if now[one].has_due], at=at):
            self.accounts[ended.account_id].held -= ended.microtokens
            give_back([ended], counts=self.counts, caps=caps)
        self._read_lots()

    @classmethod
    def of_account(cls, account_id: int, *, at: datetime) -> "Round":
        """Waits for the account. For asks that are there already."""
        return cls._locked([account_id], (), at=at)

    @classmethod
    def of_asks(cls, asks: Sequence[Ask], *, at: datetime) -> "Round":
        """Waits for their account if it is one; of several, takes those that nobody has locked."""
        return cls._locked(sorted({ask.account_id for ask in asks}), asks, at=at)

    @classmethod
    def _locked(cls, account_ids: list[int], asks: Sequence[Ask], *, at: datetime) -> "Round":
        shards = _bigints({shard_of(account_id) for account_id in account_ids})
        ids = _bigints(account_ids)
        asked = {
            "account_ids": _bigints(ask.account_id for ask in asks),
            "run_keys": [ask.run_key for ask in asks],
        }
        locking = "hold_account" if len(account_ids) == 1 else "hold_accounts"
        locked, now, found = sql.in_one_go(
            (locking, {"shards": shards, "account_ids": ids}),
            ("spendable", {"shards": shards, "account_ids": ids, "at": at}),
            ("known_of_asked", asked),
        )
        return cls(
            [_Locked(*row) for row in locked],
            {row[0]: _Spendable(*row) for row in now},
            [_Known(*row) for row in found],
            at=at,
        )

    def read_counts(self, asks: Iterable[Ask]) -> None:
        """Of every limit that one of these asks may count on."""
        self.counts.read(
            counter
            for ask in asks
            for cap in self.accounts[ask.account_id].caps
            if (counter := self._counter(cap, ask)) is not None
        )

    def decide(self, ask: Ask) -> Decision:
        """In the order of asking: what is held for one is not there for the next."""
        account = self.accounts[ask.account_id]
        if account.is_overdue:
            return PaymentOverdue(account=ask.account)
        cost = self._cost(account, ask)
        if (refusal := self._refusal_of_limits(account, ask, cost, is_hard=True)) is not None:
            return refusal
        if account.spendable - account.held < ask.microtokens:
            return InsufficientTokens(
                account=ask.account,
                asked=ask.microtokens,
                available=account.spendable,
                held=account.held,
            )
        review = self._soft(account, ask, cost)
        if isinstance(review, LedgerError):
            return review
        if review is not None:
            return Held(ask=ask, micros=cost.micros, limit_ids=[], review_id=review)
        return self._hold(account, ask, cost.micros)

    def _hold(self, account: _Account, ask: Ask, micros: int) -> Held:
        account.held += ask.microtokens
        limit_ids = []
        for cap in account.caps:
            if (counter := self._counter(cap, ask)) is not None:
                limit_ids.append(cap.id)
                if cap.period != "run":
                    self.counts.hold(counter, cap.amount(ask.microtokens, micros))
        return Held(ask=ask, micros=micros, limit_ids=limit_ids, review_id=None)

    def _refusal_of_limits(
        self, account: _Account, ask: Ask, cost: Cost, *, is_hard: bool
    ) -> LimitReached | None:
        for cap in account.caps:
            if cap.is_hard == is_hard and (taken := self._over(cap, ask, cost)) is not None:
                return self._reached(cap, ask, cost, taken)
        return None

    def _over(self, cap: Cap, ask: Ask, cost: Cost) -> Counter | None:
        """The counter on which this ask would exceed a limit; None if it would not."""
        counter = self._counter(cap, ask)
        if counter is None:
            return None
        standing, asked = self._stands(cap, ask, cost, counter)
        if cap.unit == "overage" and not asked:
            return None  # prepaid tokens cover it, whatever was used beyond them before
        return counter if standing.used + standing.held + asked > cap.cap else None

    def _stands(self, cap: Cap, ask: Ask, cost: Cost, counter: Counter) -> tuple[Count, int]:
        """What is used and held of a limit, and what this ask would add."""
        if cap.unit == "overage":
            return cost.overage, cost.asked_overage
        asked = cap.amount(ask.microtokens, cost.micros)
        if cap.period == "run":
            return Count(), asked
        standing, added = self.counts.standing[counter], self.counts.added[counter]
        used, held = standing.used + added.used, standing.held + added.held
        return Count(used=used, held=held), asked

    def _reached(
        self, cap: Cap, ask: Ask, cost: Cost, counter: Counter, reason: str = ""
    ) -> LimitReached:
        standing, asked = self._stands(cap, ask, cost, counter)
        return LimitReached(
            limit_id=cap.id,
            scope=cap.scope,
            scope_value=counter[1],
            period=cap.period,
            unit=cap.unit,
            cap=cap.cap,
            used=standing.used,
            held=standing.held,
            asked=asked,
            reason=reason,
        )

    def _counter(self, cap: Cap, ask: Ask) -> Counter | None:
        value = cap.value_of(ask.names)
        return None if value is None else (cap.id, value, cap.period_start(self.at))

    def _soft(self, account: _Account, ask: Ask, cost: Cost) -> int | LimitReached | None:
        """The review that an ask waits for, if a soft limit is reached that nobody has extended."""
        for cap in account.caps:
            if cap.is_hard or (counter := self._over(cap, ask, cost)) is None:
                continue
            asked = (cap.id, _reviewed(cap, ask, counter), counter[2])
            if asked not in self._reviews:
                self._reviews[asked] = self._standing_review(cap, asked)
            review = self._reviews[asked]
            if review is None:
                self._reviews[asked] = review = self._open_review(cap, ask, counter, cost)
            if review.answered_at is None:
                return review.id
            if not review.is_allowed:
                return self._reached(cap, ask, cost, counter, review.reason)
        return None

    def _standing_review(self, cap: Cap, asked: Counter) -> LimitReview | None:
        """The one that waits, or the latest whose answer stands."""
        _, value, start = asked
        reviews = LimitReview.objects.filter(
            shard=shard_of(cap.id),
            account_id=cap.account_id,  # by which there is an index
            limit_id=cap.id,
            scope_value=value,
            # In a period that began then: not when it was opened, if the account moved since.
            opened_at__gte=start,
        ).order_by("-opened_at", "-id")
        for review in reviews:
            is_of_period = cap.period_start(review.opened_at) == start
            if is_of_period and (review.until_at is None or self.at < review.until_at):
                return review
        return None

    def _open_review(self, cap: Cap, ask: Ask, counter: Counter, cost: Cost) -> LimitReview:
        [(number,)] = sql.rows("next_limit_number")
        standing, asked = self._stands(cap, ask, cost, counter)
        return LimitReview.objects.create(
            id=number * 256 + shard_of(cap.account_id),
            shard=shard_of(cap.account_id),
            account_id=cap.account_id,
            limit_id=cap.id,
            scope_value=_reviewed(cap, ask, counter),
            period_start=counter[2],
            opened_at=self.at,
            run_key=ask.run_key,
            used=standing.used,
            held=standing.held,
            asked=asked,
            reason="",
        )

    def _read_lots(self) -> None:
        """Only limits in money or on overage ask what tokens would be drawn from."""
        asked = [
            account.id
            for account in self.accounts.values()
            if any(cap.unit != "tokens" for cap in account.caps)
        ]
        for lot in queries.lots(account_ids=asked) if asked else ():
            self.accounts[lot.account_id].lots.append(lot)

    def _cost(self, account: _Account, ask: Ask) -> Cost:
        if not account.lots:
            return NO_COST
        return foreseen.cost(account.lots, account.held, ask.microtokens, at=self.at)


def _bigints(values: Iterable[int]) -> PackedArray:
    return bigints(np.fromiter(values, np.int64))


def decide(asks: Sequence[Ask], *, decided: Round) -> list[HoldNow | LedgerError]:
    """Decide new asks, in their order, and write what is held or waits.

    An ask that was made before gets what became of it; with another body, HoldConflict. One for
    a run that is debited gets RunDebited.
    """
    found = [row for row in decided.found if row.account_id in decided.accounts]
    holds = known([row.key for row in found if row.is_held]) if found else {}
    debited = {row.key for row in found if not row.is_held}
    decided.read_counts(ask for ask in asks if ask.key not in holds)
    outcomes: list[HoldNow | LedgerError] = []
    new: list[HoldNow] = []
    for ask in asks:
        if ask.key in holds:
            outcomes.append(_again(ask, holds[ask.key]))
        elif ask.key in debited:
            outcomes.append(RunDebited(account=ask.account, run=ask.run_id))
        else:
            decision = decided.decide(ask)
            if isinstance(decision, Held):
                holds[ask.key] = _new(decision, at=decided.at)
                new.append(holds[ask.key])
                outcomes.append(holds[ask.key])
            else:
                outcomes.append(decision)
    _write(new, at=decided.at)
    decided.counts.write()
    return outcomes


class _Known(NamedTuple):
    """A row of known_of_asked.sql."""

    account_id: int
    run_key: uuid.UUID
    is_held: bool

    @property
    def key(self) -> HoldKey:
        return (self.account_id, self.run_key)


class _Spendable(NamedTuple):
    """A row of spendable.sql."""

    account_id: int
    spendable_microtokens: Decimal
    has_due: bool


def spendable(account_ids: Sequence[int], *, at: datetime) -> list[_Spendable]:
    """What accounts could spend on a run that occurs at `at`, with the overage they may use."""
    shards = sorted({shard_of(account_id) for account_id in account_ids})
    rows = sql.rows("spendable", shards=shards, account_ids=list(account_ids), at=at)
    return [_Spendable(*row) for row in rows]


def let_time_pass(account_ids: Sequence[int], *, at: datetime) -> list[EndedHold]:
    """Take holds of locked accounts whose time has come out of what counts; those that lapsed."""
    if not account_ids:
        return []
    shards = sorted({shard_of(account_id) for account_id in account_ids})
    ids = list(account_ids)
    return sql.query(
        EndedHold, "let_time_pass", shards=shards, account_ids=ids, at=at, watched=WATCHED
    )


def _again(ask: Ask, hold: HoldNow) -> HoldNow | LedgerError:
    if hold.body_digest != ask.body_digest:
        return HoldConflict(account=ask.account, run=ask.run_id)
    return hold


def _new(held: Held, *, at: datetime) -> HoldNow:
    ask = held.ask
    is_held = held.review_id is None
    expires_at = at + timedelta(seconds=ask.life_seconds) if is_held else None
    return HoldNow(
        account_id=ask.account_id,
        run_key=ask.run_key,
        run_id=ask.run_id,
        body_digest=ask.body_digest,
        microtokens=ask.microtokens,
        micros=held.micros,
        **ask.names,
        life_seconds=ask.life_seconds,
        asked_at=at,
        held_at=at if is_held else None,
        expires_at=expires_at,
        claimed_at=None,
        captured_at=None,
        released_at=None,
        lapsed_at=None,
        refused_at=None,
        refusal="",
        review_id=held.review_id,
        limit_ids=held.limit_ids,
        counted_microtokens=ask.microtokens if is_held else 0,
        counted_micros=held.micros if is_held else 0,
        due_at=NEVER if expires_at is None else expires_at,
    )


def _write(new: Sequence[HoldNow], *, at: datetime) -> None:
    if not new:
        return
    # One text is quicker to send than an array for each column.
    rows = [
        {name: getattr(one, name) for name in _WRITTEN} | {"limit_ids": sql.array(one.limit_ids)}
        for one in new
    ]
    sql.binary("hold", at=at, holds=msgspec.json.encode(rows).decode())


def _reviewed(cap: Cap, ask: Ask, counter: Counter) -> str:
    """What a review is about: a limit per run is reviewed run by run."""
    return ask.run_id if cap.period == "run" else counter[1]
