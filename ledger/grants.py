"""Grant lots, open overage, roll over and expire.

Every operation takes keywords only and the time as `at`, and is done once under its key: the
same request again gives the same answer, another request under that key is refused. Each takes
the lock of the account's shard and joins the caller's transaction.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction

from ledger import accounts, operating
from ledger.debiting import drain_shard
from ledger.errors import OtherCurrency
from ledger.models import Account, Entry, Lot
from ledger.operating import CLOSING_KEY_PREFIX, Begun, Writing
from ledger.units import (
    LOT_MICROTOKENS_MAX,
    LOT_PRICE_MICROS_MAX,
    UNBOUNDED_MICROTOKENS,
    Micros,
    Microtokens,
    shard_of,
)
from ledger.value import Tiers, prepaid_slice_micros

LOTS_PER_SWEEP_MAX = 1_000
OVERAGE_PRIORITY = 0


@dataclass(frozen=True, kw_only=True)
class Granted:
    """A new lot, and how much of it went at once to repay the account's debt."""

    lot_id: int
    repaid_microtokens: Microtokens


@dataclass(frozen=True, kw_only=True)
class Closed:
    """What became of what was left in a lot when its time, and its grace, were over."""

    lot_id: int
    rolled_microtokens: Microtokens
    rolled_micros: Micros
    rolled_lot_id: int | None
    expired_microtokens: Microtokens
    expired_micros: Micros


def grant(
    *,
    account_id: int,
    microtokens: int,
    source: str,
    price_micros: int,
    currency: str,
    priority: int,
    effective_at: datetime,
    expires_at: datetime | None,
    grace: timedelta = timedelta(0),
    rollover_microtokens_max: int = 0,
    rollover_expires_at: datetime | None = None,
    idempotency_key: str,
    at: datetime,
) -> Granted:
    """Put a new lot into an account; the account's debt is repaid from it first.

    `price_micros` is what was paid for the whole lot, in micros of `currency`. What is left at
    `expires_at` waits out `grace`, in which runs that occurred in time may still come; then up
    to `rollover_microtokens_max` roll over until `rollover_expires_at`, and the rest expires.

    Raises IdempotencyKeyReused, OtherCurrency and UnknownAccount.
    """
    assert 0 < microtokens <= LOT_MICROTOKENS_MAX
    assert 0 <= price_micros <= LOT_PRICE_MICROS_MAX
    lot = Lot(
        kind=Lot.Kind.PREPAID,
        account_id=account_id,
        source=source,
        priority=priority,
        issued_at=at,
        effective_at=effective_at,
        expires_at=expires_at,
        closes_at=None if expires_at is None else expires_at + grace,
        granted_microtokens=microtokens,
        price_micros=price_micros,
        currency=currency,
        rollover_microtokens_max=rollover_microtokens_max,
        rollover_expires_at=rollover_expires_at,
    )
    lot_id, repaid = _put_in(lot, key=idempotency_key, kind="grant")
    if repaid is None:
        repaid = _repaid(account_id, idempotency_key)
    return Granted(lot_id=lot_id, repaid_microtokens=Microtokens(repaid))


def open_overage(
    *,
    account_id: int,
    tiers: Tiers,
    cap_microtokens: int | None,
    currency: str,
    effective_at: datetime,
    expires_at: datetime,
    idempotency_key: str,
    at: datetime,
) -> int:
    """Let runs of one period go on beyond all prepaid lots, billed by `tiers`; the lot's id.

    `cap_microtokens` is the hard cap: beyond it runs become debt. The lot stays open after the
    period for runs that occurred in it and come late.

    Raises IdempotencyKeyReused, OtherCurrency and UnknownAccount.
    """
    lot = Lot(
        kind=Lot.Kind.OVERAGE,
        account_id=account_id,
        source="overage",
        priority=OVERAGE_PRIORITY,
        issued_at=at,
        effective_at=effective_at,
        expires_at=expires_at,
        closes_at=expires_at,
        granted_microtokens=UNBOUNDED_MICROTOKENS if cap_microtokens is None else cap_microtokens,
        price_micros=0,
        currency=currency,
        tiers=tiers.written(),
    )
    lot_id, _ = _put_in(lot, key=idempotency_key, kind="open_overage")
    return lot_id


def close_lot(*, lot_id: int, at: datetime) -> Closed:
    """Roll over and expire what is left in a prepaid lot whose time and grace are over.

    The lot itself says how much may roll over and until when; rolled tokens keep what was paid
    for them, and do not roll over again. Closing it again returns the first closing's result.
    """
    lot = Lot.objects.get(shard=shard_of(lot_id), id=lot_id)
    assert lot.kind == Lot.Kind.PREPAID
    assert lot.closes_at is not None
    assert lot.closes_at <= at, "a lot is closed after its grace"
    key = f"{CLOSING_KEY_PREFIX}{lot_id}"
    with transaction.atomic():
        begun = operating.begin(
            account_id=lot.account_id, key=key, kind="close", digest=_digest(lot)
        )
        if begun.known_lot_id is None:
            return _close(begun, lot_id, digest=_digest(lot), at=at)
        return _closed(lot, key)


def expire_due(*, at: datetime) -> int:
    """Close lots whose grace is over, at most LOTS_PER_SWEEP_MAX; how many it closed.

    What was accepted in time is debited first. Call again until it returns 0. Until then nobody
    can spend what they hold: a lot serves no run that occurs after its expiry, whether or not it
    has been closed.
    """
    due = Lot.objects.filter(open=True, kind=Lot.Kind.PREPAID, closes_at__lte=at)
    lot_ids = list(
        due.order_by("closes_at", "id").values_list("id", flat=True)[:LOTS_PER_SWEEP_MAX]
    )
    for shard in sorted({shard_of(lot_id) for lot_id in lot_ids}):
        drain_shard(shard=shard, at=at)
    for lot_id in lot_ids:
        close_lot(lot_id=lot_id, at=at)
    return len(lot_ids)


def _put_in(lot: Lot, *, key: str, kind: str) -> tuple[int, int | None]:
    """Put a new lot into its account and repay the account's debt from it: the lot's id, and how
    much was repaid. None if this very operation was done before: then it is that one's lot."""
    assert not key.startswith(CLOSING_KEY_PREFIX), "a lot that took this key could never be closed"
    digest = _digest(lot)
    with transaction.atomic():
        begun = operating.begin(account_id=lot.account_id, key=key, kind=kind, digest=digest)
        if begun.known_lot_id is not None:
            return begun.known_lot_id, None
        _settle_currency(begun, lot.currency)
        lot.shard = shard_of(lot.account_id)
        lot.id = accounts.next_lot_id(shard=lot.shard)
        # The new lot may come before the one in use, which is put away.
        writing = Writing(
            begun, kind=kind, digest=digest, lot_ids=[begun.debt_lot_id], at=lot.issued_at
        )
        writing.put_in(lot)
        repaid = 0
        if lot.kind == Lot.Kind.PREPAID:
            repaid = _repay(writing, lot, writing.lot(begun.debt_lot_id))
        writing.write(lot_id=lot.id)
    return lot.id, repaid


def _settle_currency(begun: Begun, currency: str) -> None:
    """An account's first lot that has a currency decides in which it counts money."""
    if currency and not begun.currency:
        own = Account.objects.filter(shard=shard_of(begun.account_id), id=begun.account_id)
        own.update(currency=currency)
    elif currency not in ("", begun.currency):
        raise OtherCurrency(account=begun.account, currency=begun.currency, asked=currency)


def _repay(writing: Writing, lot: Lot, debt: Lot) -> int:
    """Pay the account's debt from a lot that is new, as entries on both."""
    repaid = min(debt.out_microtokens, lot.granted_microtokens)
    writing.take(lot, Entry.Kind.REPAY, repaid)
    writing.put_back(debt, Entry.Kind.REPAID, repaid)
    return repaid


def _repaid(account_id: int, key: str) -> int:
    entry = Entry.objects.filter(
        shard=shard_of(account_id),
        account_id=account_id,
        operation_key=key,
        kind=Entry.Kind.REPAY,
    ).first()
    return 0 if entry is None else entry.microtokens


def _close(begun: Begun, lot_id: int, *, digest: uuid.UUID, at: datetime) -> Closed:
    writing = Writing(
        begun, kind="close", digest=digest, lot_ids=[lot_id, begun.debt_lot_id], at=at
    )
    lot = writing.lot(lot_id)
    remaining = lot.granted_microtokens - lot.out_microtokens
    rolled = min(remaining, lot.rollover_microtokens_max)
    next_lot = None
    if rolled > 0:
        next_lot = _roll_over(writing, lot, rolled, debt=writing.lot(begun.debt_lot_id))
    expired = remaining - rolled
    closed = Closed(
        lot_id=lot_id,
        rolled_microtokens=Microtokens(rolled),
        rolled_micros=Micros(0 if next_lot is None else next_lot.price_micros),
        rolled_lot_id=None if next_lot is None else next_lot.id,
        expired_microtokens=Microtokens(expired),
        expired_micros=_worth(lot, lot.out_microtokens, expired),
    )
    writing.take(lot, Entry.Kind.EXPIRE, expired)
    writing.write(lot_id=lot_id)
    return closed


def _roll_over(writing: Writing, lot: Lot, rolled: int, *, debt: Lot) -> Lot:
    assert lot.expires_at is not None
    assert lot.closes_at is not None
    assert lot.rollover_expires_at is not None
    next_lot = Lot(
        id=accounts.next_lot_id(shard=lot.shard),
        shard=lot.shard,
        account_id=lot.account_id,
        kind=Lot.Kind.PREPAID,
        source="rollover",
        priority=lot.priority,
        # The tokens are as old as they were: of two lots that expire together they go first, as
        # they do not roll over again.
        issued_at=lot.issued_at,
        effective_at=lot.expires_at,
        expires_at=lot.rollover_expires_at,
        closes_at=lot.rollover_expires_at + (lot.closes_at - lot.expires_at),
        granted_microtokens=rolled,
        price_micros=_worth(lot, lot.out_microtokens, rolled),
        currency=lot.currency,
        rolled_from_lot_id=lot.id,
    )
    writing.take(lot, Entry.Kind.ROLL_OVER, rolled)
    writing.put_in(next_lot)
    _repay(writing, next_lot, debt)
    return next_lot


def _closed(lot: Lot, key: str) -> Closed:
    entries = Entry.objects.filter(shard=lot.shard, lot_id=lot.id, operation_key=key)
    moved = {entry.kind: entry for entry in entries}
    rolled, expired = moved.get(Entry.Kind.ROLL_OVER), moved.get(Entry.Kind.EXPIRE)
    next_lot = Lot.objects.filter(
        shard=lot.shard, account_id=lot.account_id, rolled_from_lot_id=lot.id
    ).first()
    return Closed(
        lot_id=lot.id,
        rolled_microtokens=Microtokens(0 if rolled is None else rolled.microtokens),
        rolled_micros=_entry_worth(lot, rolled),
        rolled_lot_id=None if next_lot is None else next_lot.id,
        expired_microtokens=Microtokens(0 if expired is None else expired.microtokens),
        expired_micros=_entry_worth(lot, expired),
    )


def _entry_worth(lot: Lot, entry: Entry | None) -> Micros:
    if entry is None:
        return Micros(0)
    return _worth(lot, entry.out_before_microtokens, entry.microtokens)


def _worth(lot: Lot, out_before: int, microtokens: int) -> Micros:
    return prepaid_slice_micros(
        price_micros=lot.price_micros,
        granted_microtokens=lot.granted_microtokens,
        out_before=out_before,
        out_after=out_before + microtokens,
    )


def _digest(lot: Lot) -> uuid.UUID:
    """What the request asked for; the instant of asking is not part of it."""
    return operating.digest_of(
        [
            lot.kind, lot.source, lot.priority, lot.effective_at, lot.expires_at, lot.closes_at,
            lot.granted_microtokens, lot.price_micros, lot.currency, lot.tiers,
            lot.rollover_microtokens_max, lot.rollover_expires_at,
        ]
    )  # fmt: skip
