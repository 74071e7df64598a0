"""Take tokens out of a lot because what was paid for them goes back, or may; and put them in again.

    available ─freeze─▶ frozen      the money is in doubt: nobody spends them, nor do they expire
    frozen ─thaw─▶ available        it stays
    available ─revoke─▶ revoked     it went back
    revoked ─restore─▶ available    it came again after all

`reverse` is told how much of a lot shall be revoked and how much frozen *in all*, and moves the
difference to what is. So it does not matter in which order, or how often, the reasons come. What
shall be revoked but was used is owed: it becomes debt, which the next grant repays. What expired
is gone, and nobody owes it.

Like all that leaves a lot, frozen and revoked tokens leave it in order, and what comes back comes
off the end of what is out: entries of a lot stay without gap or overlap.
"""

import hashlib
import json
import uuid
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.db.models import F, Sum

from ledger import sql
from ledger.errors import IdempotencyKeyReused
from ledger.grants import CLOSING_KEY_PREFIX
from ledger.models import Account, Entry, Lot, Operation
from ledger.units import Microtokens, shard_of

_KIND = "reverse"


@dataclass(frozen=True, kw_only=True)
class Reversed:
    """What is taken out of a lot, and owed because it was used before it could be."""

    lot_id: int
    frozen_microtokens: Microtokens
    revoked_microtokens: Microtokens
    owed_microtokens: Microtokens


def reverse(
    *,
    lot_id: int,
    revoked_microtokens: int,
    frozen_microtokens: int,
    may_owe: bool = True,
    idempotency_key: str,
    at: datetime,
) -> Reversed:
    """Let this much of a prepaid lot be revoked, and this much of the rest frozen, in all.

    Less is frozen if less is left. What of the revoked is left no more, because runs used it or it
    repaid a debt, is owed, unless `may_owe` forbids it. Both may be less than before: then tokens
    come back, into a lot that has been closed only to expire at once. Asked again it changes
    nothing, and says how the lot stands now.

    Takes the lock of the account's shard. Raises IdempotencyKeyReused.
    """
    assert revoked_microtokens >= 0
    assert frozen_microtokens >= 0
    shard = shard_of(lot_id)
    digest = _digest([lot_id, revoked_microtokens, frozen_microtokens, may_owe])
    with transaction.atomic():
        sql.lock_shard(shard)
        lot = Lot.objects.get(shard=shard, id=lot_id)
        assert lot.kind == Lot.Kind.PREPAID
        assert revoked_microtokens + frozen_microtokens <= lot.granted_microtokens
        if _begin(lot, key=idempotency_key, digest=digest, at=at):
            sql.execute("put_away_lots", shard=shard, account_ids=[lot.account_id])
            moving = _Moving(lot_id=lot_id, key=idempotency_key, at=at)
            moving.bring(revoked=revoked_microtokens, frozen=frozen_microtokens, may_owe=may_owe)
        return _stands(lot)


def reversed_of(*, lot_id: int) -> Reversed:
    """How a lot stands. Reads only."""
    return _stands(Lot.objects.get(shard=shard_of(lot_id), id=lot_id))


def _begin(lot: Lot, *, key: str, digest: uuid.UUID, at: datetime) -> bool:
    """Whether it is to be done: not if it was."""
    assert not key.startswith(CLOSING_KEY_PREFIX), "a lot that took this key could never be closed"
    account = {"shard": lot.shard, "account_id": lot.account_id}
    known = Operation.objects.filter(**account, key=key).first()
    if known is None:
        Operation.objects.create(
            **account, key=key, kind=_KIND, digest=digest, lot_id=lot.id, occurred_at=at
        )
        return True
    if (known.kind, known.digest) != (_KIND, digest):
        raise IdempotencyKeyReused(account_id=lot.account_id, idempotency_key=key)
    return False


class _Moving:
    """A lot, its account's debt and the entries on both, while a reversal writes them.

    The shard is locked and the lot in use put away: the rows are the whole truth.
    """

    def __init__(self, *, lot_id: int, key: str, at: datetime) -> None:
        shard = shard_of(lot_id)
        self.lot = Lot.objects.get(shard=shard, id=lot_id)
        account = Account.objects.get(shard=shard, id=self.lot.account_id)
        self.debt = Lot.objects.get(shard=shard, id=account.debt_lot_id)
        self.key = key
        self.at = at

    def bring(self, *, revoked: int, frozen: int, may_owe: bool) -> None:
        lot, before = self.lot, _stands(self.lot)
        taken = before.frozen_microtokens + before.revoked_microtokens
        # Of a lot into which all that was taken had been put back first.
        left = lot.granted_microtokens - lot.out_microtokens + taken
        used = lot.granted_microtokens - left - _sum(lot, Entry.Kind.EXPIRE)
        owed = min(max(revoked - left, 0), used) if may_owe else 0
        revoked = min(revoked, left)
        frozen = min(frozen, left - revoked)
        self._put_back(lot, Entry.Kind.THAW, before.frozen_microtokens - frozen)
        self._put_back(lot, Entry.Kind.RESTORE, before.revoked_microtokens - revoked)
        self._take(lot, Entry.Kind.REVOKE, revoked - before.revoked_microtokens)
        self._take(lot, Entry.Kind.FREEZE, frozen - before.frozen_microtokens)
        self._expire_again(lot, taken - revoked - frozen)
        self._owe(owed - before.owed_microtokens)

    def _owe(self, more: int) -> None:
        """Debt that was repaid meanwhile goes back to the lots that repaid it, the latest first."""
        self._take(self.debt, Entry.Kind.OWE, more)
        missing = -more - self.debt.out_microtokens
        if missing > 0:
            repaid = sql.rows(
                "repayments",
                shard=self.debt.shard,
                account_id=self.debt.account_id,
                debt_lot_id=self.debt.id,
            )
            for lot_id, most in repaid:
                missing -= self._give_repayment_back(lot_id, min(most, missing))
            assert missing == 0, "what a debt lacks was repaid"
        self._put_back(self.debt, Entry.Kind.FORGIVE, -more)

    def _give_repayment_back(self, lot_id: int, microtokens: int) -> int:
        own = lot_id == self.lot.id
        lot = self.lot if own else Lot.objects.get(shard=self.lot.shard, id=lot_id)
        self._put_back(lot, Entry.Kind.REPAID, microtokens)
        self._take(self.debt, Entry.Kind.REPAY, microtokens)
        self._expire_again(lot, microtokens)
        return microtokens

    def _expire_again(self, lot: Lot, microtokens: int) -> None:
        """A lot that was closed is not closed again."""
        closing = Operation.objects.filter(
            shard=lot.shard, account_id=lot.account_id, key=f"{CLOSING_KEY_PREFIX}{lot.id}"
        )
        if microtokens > 0 and closing.exists():
            assert lot.closes_at is not None
            self._take(lot, Entry.Kind.EXPIRE, microtokens, at=max(self.at, lot.closes_at))

    def _take(self, lot: Lot, kind: str, microtokens: int, *, at: datetime | None = None) -> None:
        if microtokens > 0:
            self._enter(lot, kind, microtokens, at=at or self.at)
            _move_out(lot, microtokens)

    def _put_back(self, lot: Lot, kind: str, microtokens: int) -> None:
        if microtokens > 0:
            self._enter(lot, kind, microtokens, at=self.at)
            _move_out(lot, -microtokens)

    def _enter(self, lot: Lot, kind: str, microtokens: int, *, at: datetime) -> None:
        sql.execute(
            "enter",
            shard=lot.shard,
            account_id=lot.account_id,
            lot_id=lot.id,
            kind=kind,
            out_before_microtokens=lot.out_microtokens,
            microtokens=microtokens,
            operation_key=self.key,
            occurred_at=at,
        )


def _move_out(lot: Lot, microtokens: int) -> None:
    lot.out_microtokens += microtokens
    Lot.objects.filter(shard=lot.shard, id=lot.id).update(
        out_microtokens=F("out_microtokens") + microtokens,
        open=lot.out_microtokens < lot.granted_microtokens,
    )


def _stands(lot: Lot) -> Reversed:
    own = Operation.objects.filter(
        shard=lot.shard, account_id=lot.account_id, kind=_KIND, lot_id=lot.id
    )
    owed = Entry.objects.filter(
        shard=lot.shard,
        account_id=lot.account_id,
        operation_key__in=list(own.values_list("key", flat=True)),
    )
    sums = dict(owed.values_list("kind").annotate(Sum("microtokens")).order_by())
    return Reversed(
        lot_id=lot.id,
        frozen_microtokens=Microtokens(_sum(lot, Entry.Kind.FREEZE) - _sum(lot, Entry.Kind.THAW)),
        revoked_microtokens=Microtokens(
            _sum(lot, Entry.Kind.REVOKE) - _sum(lot, Entry.Kind.RESTORE)
        ),
        owed_microtokens=Microtokens(sums.get(Entry.Kind.OWE, 0) - sums.get(Entry.Kind.FORGIVE, 0)),
    )


def _sum(lot: Lot, kind: str) -> int:
    entries = Entry.objects.filter(shard=lot.shard, lot_id=lot.id, kind=kind)
    return int(entries.aggregate(moved=Sum("microtokens", default=0))["moved"])


def _digest(asked: list[object]) -> uuid.UUID:
    """What the request asked for, in 16 bytes."""
    return uuid.UUID(bytes=hashlib.sha256(json.dumps(asked).encode()).digest()[:16])
