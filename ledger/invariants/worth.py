"""Of what runs are worth in money, as runs and entries are read from end to end."""

from collections import defaultdict
from typing import Final

import numpy as np

from ledger import sql
from ledger.invariants.rows import BrokenRows
from ledger.invariants.scanning import read
from ledger.packing import Integers, Rows, pick_rows
from ledger.value import Tiers, prepaid_micros_of_all, tiered_micros

WORTH: Final = "a run is worth in money what it took of its lots is worth"
NAMES: Final = (WORTH,)

RUN_COLUMNS: Final = {
    "shard": "smallint",
    "account_id": "bigint",
    "run_key": "uuid",
    "part": "bigint",
    "microtokens": "bigint",
    "micros": "bigint",
    "lot_id": "bigint",
    "out_before_microtokens": "bigint",
    "slices_count": "smallint",
}
ENTRY_COLUMNS: Final = {"coalesce(part, 0) AS part": "bigint"}
_LOT_COLUMNS: Final = {
    "id": "bigint",
    "granted_microtokens": "bigint",
    "price_micros": "bigint",
    "(tiers IS NOT NULL)::integer AS has_tiers": "integer",
}

_Key = tuple[int, bytes, int]


class Worth:
    """All lots. Entries come before the runs that they are slices of."""

    def __init__(self, broken: BrokenRows) -> None:
        lots = read("ledger_lot", _LOT_COLUMNS)
        lots = lots[np.argsort(lots["id"])]
        self._broken = broken
        self._ids: Integers = np.ascontiguousarray(lots["id"])
        self._granted = lots["granted_microtokens"].copy()
        self._price = lots["price_micros"].copy()
        self._has_tiers = lots["has_tiers"] == 1
        self._tiers: dict[int, Tiers] = {}
        self._of_slices: dict[_Key, int] = defaultdict(int)

    def take_slices(self, entries: Rows) -> None:
        """Entries of runs that crossed lots."""
        for key, micros in zip(_keys(entries), self._of(entries).tolist(), strict=True):
            self._of_slices[key] += micros

    def take_runs(self, runs: Rows) -> None:
        expected = np.zeros(len(runs), np.int64)
        of_one_lot = np.flatnonzero(runs["slices_count"] == 1)
        expected[of_one_lot] = self._of(pick_rows(runs, of_one_lot))
        crossing = np.flatnonzero(runs["slices_count"] > 1)
        expected[crossing] = [
            self._of_slices.pop(key, -1) for key in _keys(pick_rows(runs, crossing))
        ]
        for row in np.flatnonzero(expected != runs["micros"]).tolist():
            [(account_id, key, part)] = _keys(runs[row : row + 1])
            self._broken.add(WORTH, (account_id, key.hex(), part))

    def _of(self, rows: Rows) -> Integers:
        """What each took; -1 of a lot that is not there, which is another rule's too."""
        if not len(self._ids):
            return np.full(len(rows), -1)
        at = np.minimum(np.searchsorted(self._ids, rows["lot_id"]), len(self._ids) - 1)
        begins = rows["out_before_microtokens"].astype(np.int64)
        ends = begins + rows["microtokens"]
        granted, price = self._granted[at], self._price[at]
        worth = prepaid_micros_of_all(price, granted, ends)
        worth -= prepaid_micros_of_all(price, granted, begins)
        for row in np.flatnonzero(self._has_tiers[at]).tolist():
            tiers = self._tiers_of(int(rows["lot_id"][row]))
            worth[row] = tiered_micros(tiers=tiers, out_microtokens=int(ends[row]))
            worth[row] -= tiered_micros(tiers=tiers, out_microtokens=int(begins[row]))
        worth[self._ids[at] != rows["lot_id"]] = -1
        return worth

    def _tiers_of(self, lot_id: int) -> Tiers:
        if lot_id not in self._tiers:
            found = sql.rows("tiers_of_lots", shard=lot_id & 255, lot_ids=sql.array([lot_id]))
            self._tiers |= {one: Tiers.of_json(tiers) for one, tiers in found}
        return self._tiers[lot_id]


def _keys(rows: Rows) -> list[_Key]:
    """(account id, run key, part) of each row."""
    keys = np.ascontiguousarray(rows["run_key"]).tolist()
    return list(zip(rows["account_id"].tolist(), keys, rows["part"].tolist(), strict=True))
