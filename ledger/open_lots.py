"""The open lots of accounts: as a worker remembers them (ledger.standings), or read."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Final

import numpy as np

from ledger import sql
from ledger.drawdown import KINDS, Lots
from ledger.packing import POSTGRESQL_EPOCH_US, Integers, bigints
from ledger.standings import Accounts
from ledger.units import NEVER
from ledger.value import Tiers

# A lot as it is remembered.
_LOT: Final = np.dtype(
    [(field.name, np.int64) for field in fields(Lots) if field.name != "account"]
)


class NotRemembered(Exception):
    """Something would have to be read."""


@dataclass(frozen=True, kw_only=True)
class OpenLots:
    """What is known of a shard's open lots."""

    shard: int
    may_read: bool = True  # else: NotRemembered

    def of(self, accounts: Accounts) -> Lots:
        """The open lots of these accounts, as their rows say, in draw-down order."""
        packed = accounts.open_lots
        unknown = [place for place, one in enumerate(packed) if one is None]
        if unknown:
            read = pack(self._read(accounts.ids[unknown]), len(unknown))
            for place, one in zip(unknown, read, strict=True):
                packed[place] = one
        known = [one for one in packed if one is not None]
        rows = np.frombuffer(b"".join(known), _LOT)
        counts = np.fromiter(map(len, known), np.int64, len(known)) // _LOT.itemsize
        columns = {name: np.ascontiguousarray(rows[name]) for name in _LOT.names or ()}
        return Lots(account=np.repeat(np.arange(len(known)), counts), **columns)

    def tiers(self, lot_ids: list[int]) -> Mapping[int, Tiers]:
        """The tiers of these lots, by id. They are never remembered."""
        if not lot_ids:
            return {}
        self._check_may_read()
        rows = sql.rows("tiers_of_lots", shard=self.shard, lot_ids=sql.array(lot_ids))
        return {lot_id: Tiers.of_json(tiers) for lot_id, tiers in rows}

    def _read(self, account_ids: Integers) -> Lots:
        self._check_may_read()
        found, ids, kinds, priorities, begins, ends, issued, granted, out, prices = sql.columns(
            "open_lots",
            shard=self.shard,
            account_ids=bigints(account_ids),
            kinds=sql.array(KINDS),
            never=NEVER,
        )
        return Lots(
            account=np.searchsorted(account_ids, found),
            id=ids,
            kind_rank=kinds - 1,
            priority=priorities,
            effective_at_us=begins + POSTGRESQL_EPOCH_US,
            expires_at_us=ends + POSTGRESQL_EPOCH_US,
            price_micros=prices,
            issued_at_us=issued,
            granted_microtokens=granted,
            out_microtokens=out,
        ).in_draw_down_order()

    def _check_may_read(self) -> None:
        if not self.may_read:
            raise NotRemembered


def pack(lots: Lots, accounts_count: int) -> list[bytes]:
    """Each account's lots, as they are remembered."""
    rows = np.empty(len(lots.id), _LOT)
    for name in _LOT.names or ():
        rows[name] = getattr(lots, name)
    packed = rows.tobytes()
    edges = _LOT.itemsize * np.searchsorted(lots.account, np.arange(accounts_count + 1))
    return [packed[begin:end] for begin, end in pairwise(edges.tolist())]
