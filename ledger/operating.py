"""Operations on an account's lots: each done once under its key, and written all at once.

begin      the shard is locked, and the key looked up: it may have been done before
Writing    the lot in use is put away, so that the lots' rows are the whole truth
           put_in, take, put_back: what it does, one after the other
write      lots, the operation and its entries, in one round trip
"""

import hashlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ledger import instants, sql
from ledger.errors import IdempotencyKeyReused, UnknownAccount
from ledger.models import Entry, Lot
from ledger.units import shard_of

CLOSING_KEY_PREFIX: Final = "close:"
_COLUMNS: Final = tuple(field.attname for field in Lot._meta.concrete_fields)


@dataclass(frozen=True, kw_only=True)
class Begun:
    """An account at the beginning of an operation, and the lot that this very operation was about
    when it was done before (None: it is to be done)."""

    account_id: int
    key: str
    account: str  # its code
    currency: str
    debt_lot_id: int
    known_lot_id: int | None


def begin(*, account_id: int, key: str, kind: str, digest: uuid.UUID) -> Begun:
    """Lock the account's shard, and look the key up.

    Raises IdempotencyKeyReused and UnknownAccount.
    """
    shard = shard_of(account_id)
    found = {"shard": shard, "account_id": account_id, "key": key}
    _, rows = sql.in_one_go(("lock_shard", {"shard": shard}), ("begin_operation", found))
    if not rows:
        raise UnknownAccount(account=str(account_id))
    [(account, currency, debt_lot_id, known_kind, known_digest, known_lot_id)] = rows
    if known_lot_id is not None and (known_kind, known_digest) != (kind, digest):
        raise IdempotencyKeyReused(account_id=account_id, idempotency_key=key)
    return Begun(
        account_id=account_id,
        key=key,
        account=account,
        currency=currency,
        debt_lot_id=debt_lot_id,
        known_lot_id=known_lot_id,
    )


def digest_of(asked: Sequence[object]) -> uuid.UUID:
    """What a request asked for, in 16 bytes."""
    text = json.dumps(asked, default=instants.to_us)
    return uuid.UUID(bytes=hashlib.sha256(text.encode()).digest()[:16])


class Writing:
    """One operation while it is worked out: lots that move, lots that are new, and entries."""

    def __init__(
        self, begun: Begun, *, kind: str, digest: uuid.UUID, lot_ids: Sequence[int], at: datetime
    ) -> None:
        """The account's lot in use is put away, and these lots are read."""
        self._shard = shard_of(begun.account_id)
        self._of_account = {"shard": self._shard, "account_id": begun.account_id}
        self._said = {"key": begun.key, "kind": kind, "digest": digest, "occurred_at": at}
        self._new: list[sql.Statement] = []
        self._moved: dict[int, Lot] = {}
        self._entries: list[sql.Statement] = []
        _, rows = sql.in_one_go(
            ("put_away_lots", {"shard": self._shard, "account_ids": sql.array([begun.account_id])}),
            ("lots_of_operation", {"shard": self._shard, "lot_ids": sql.array(lot_ids)}),
        )
        self._known = {row[0]: Lot(**dict(zip(_COLUMNS, row, strict=True))) for row in rows}

    def lot(self, lot_id: int) -> Lot:
        """A lot of the account, as it is by now."""
        if lot_id not in self._known:
            self._known[lot_id] = Lot.objects.get(shard=self._shard, id=lot_id)
        return self._known[lot_id]

    def put_in(self, lot: Lot) -> None:
        """A new lot. A prepaid one is granted."""
        self._new.append(("put_in_lot", _row(lot)))
        if lot.kind == Lot.Kind.PREPAID:
            self._enter(lot, Entry.Kind.GRANT, lot.granted_microtokens)

    def take(self, lot: Lot, kind: str, microtokens: int, *, at: datetime | None = None) -> None:
        """Tokens leave a lot."""
        if microtokens > 0:
            self._enter(lot, kind, microtokens, at=at)
            self._move(lot, microtokens)

    def put_back(self, lot: Lot, kind: str, microtokens: int) -> None:
        """Tokens come back, off the end of what is out."""
        if microtokens > 0:
            self._enter(lot, kind, microtokens)
            self._move(lot, -microtokens)

    def write(self, *, lot_id: int) -> None:
        """Write all of it. The operation was about this lot."""
        moved = list(self._moved.values())
        sql.in_one_go(
            *self._new,
            ("operate", {**self._of_account, **self._said, "lot_id": lot_id}),
            *self._entries,
            (
                "move_lots",
                {
                    "shard": self._shard,
                    "lot_ids": sql.array(lot.id for lot in moved),
                    "out_microtokens": sql.array(lot.out_microtokens for lot in moved),
                },
            ),
        )

    def _enter(self, lot: Lot, kind: str, microtokens: int, *, at: datetime | None = None) -> None:
        entry = {
            "lot_id": lot.id,
            "kind": kind,
            "out_before_microtokens": lot.out_microtokens,
            "microtokens": microtokens,
            "operation_key": self._said["key"],
            "occurred_at": at or self._said["occurred_at"],
        }
        self._entries.append(("enter", {**self._of_account, **entry}))

    def _move(self, lot: Lot, microtokens: int) -> None:
        lot.out_microtokens += microtokens
        self._moved[lot.id] = lot


def _row(lot: Lot) -> dict[str, object]:
    row = {name: getattr(lot, name) for name in _COLUMNS}
    return row | {"tiers": None if lot.tiers is None else json.dumps(lot.tiers)}
