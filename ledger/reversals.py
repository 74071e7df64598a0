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

from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.db.models import Sum

from ledger import operating, sql
from ledger.models import Entry, Lot, Operation
from ledger.operating import CLOSING_KEY_PREFIX, Writing
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
    assert not idempotency_key.startswith(CLOSING_KEY_PREFIX), "a lot could never be closed"
    lot = Lot.objects.get(shard=shard_of(lot_id), id=lot_id)
    assert lot.kind == Lot.Kind.PREPAID
    assert revoked_microtokens + frozen_microtokens <= lot.granted_microtokens
    digest = operating.digest_of([lot_id, revoked_microtokens, frozen_microtokens, may_owe])
    with transaction.atomic():
        begun = operating.begin(
            account_id=lot.account_id, key=idempotency_key, kind=_KIND, digest=digest
        )
        if begun.known_lot_id is None:
            lot_ids = [lot_id, begun.debt_lot_id]
            writing = Writing(begun, kind=_KIND, digest=digest, lot_ids=lot_ids, at=at)
            moving = _Moving(writing, *map(writing.lot, lot_ids), at=at)
            moving.bring(revoked=revoked_microtokens, frozen=frozen_microtokens, may_owe=may_owe)
            writing.write(lot_id=lot_id)
        return _stands(lot)


def reversed_of(*, lot_id: int) -> Reversed:
    """How a lot stands. Reads only."""
    return _stands(Lot.objects.get(shard=shard_of(lot_id), id=lot_id))


class _Moving:
    """A lot and its account's debt, while a reversal is worked out."""

    def __init__(self, writing: Writing, lot: Lot, debt: Lot, *, at: datetime) -> None:
        self.writing = writing
        self.lot = lot
        self.debt = debt
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
        self.writing.put_back(lot, Entry.Kind.THAW, before.frozen_microtokens - frozen)
        self.writing.put_back(lot, Entry.Kind.RESTORE, before.revoked_microtokens - revoked)
        self.writing.take(lot, Entry.Kind.REVOKE, revoked - before.revoked_microtokens)
        self.writing.take(lot, Entry.Kind.FREEZE, frozen - before.frozen_microtokens)
        self._expire_again(lot, taken - revoked - frozen)
        self._owe(owed - before.owed_microtokens)

    def _owe(self, more: int) -> None:
        """Debt that was repaid meanwhile goes back to the lots that repaid it, the latest first."""
        self.writing.take(self.debt, Entry.Kind.OWE, more)
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
        self.writing.put_back(self.debt, Entry.Kind.FORGIVE, -more)

    def _give_repayment_back(self, lot_id: int, microtokens: int) -> int:
        lot = self.writing.lot(lot_id)
        self.writing.put_back(lot, Entry.Kind.REPAID, microtokens)
        self.writing.take(self.debt, Entry.Kind.REPAY, microtokens)
        self._expire_again(lot, microtokens)
        return microtokens

    def _expire_again(self, lot: Lot, microtokens: int) -> None:
        """A lot that was closed is not closed again."""
        closing = Operation.objects.filter(
            shard=lot.shard, account_id=lot.account_id, key=f"{CLOSING_KEY_PREFIX}{lot.id}"
        )
        if microtokens > 0 and closing.exists():
            assert lot.closes_at is not None
            self.writing.take(lot, Entry.Kind.EXPIRE, microtokens, at=max(self.at, lot.closes_at))


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
