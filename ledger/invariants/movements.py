"""Of lots and their movements, as those are read from end to end: sums, and no gap or overlap."""

import uuid
from typing import Final

import numpy as np
import numpy.typing as npt
from django.db import connection

from ledger.invariants.places import Places
from ledger.invariants.rows import BrokenRows
from ledger.invariants.scanning import read
from ledger.packing import Integers, Rows, pick_rows

SUMS: Final = "what is out of a lot is the sum of its movements"
NO_GAPS: Final = "movements of a lot follow one another without gap or overlap"
ACCOUNTS: Final = "an entry belongs to the account of its lot"
OWN_TIME: Final = "a lot serves only runs of its own time"
NAMES: Final = (SUMS, NO_GAPS, ACCOUNTS, OWN_TIME)

RUN_COLUMNS: Final = {
    "shard": "smallint",
    "account_id": "bigint",
    "lot_id": "bigint",
    "out_before_microtokens": "bigint",
    "microtokens": "bigint",
    "occurred_at": "timestamptz",
    "run_key": "uuid",
}
ENTRY_COLUMNS: Final = {
    "shard": "smallint",
    "account_id": "bigint",
    "lot_id": "bigint",
    "out_before_microtokens": "bigint",
    "CASE WHEN kind IN ('repaid', 'return', 'thaw', 'restore', 'forgive') THEN -microtokens"
    " ELSE microtokens END AS microtokens": "bigint",
    "occurred_at": "timestamptz",
    "coalesce(run_key, '00000000-0000-0000-0000-000000000000') AS run_key": "uuid",
    "(kind = 'debit')::integer AS is_debit": "integer",
}
_LOT_COLUMNS: Final = {
    "lot.id AS id": "bigint",
    "lot.account_id AS account_id": "bigint",
    "lot.effective_at AS effective_at": "timestamptz",
    "coalesce(lot.expires_at, 'infinity') AS expires_at": "timestamptz",
    "lot.granted_microtokens AS granted": "bigint",
    "coalesce(now.out_microtokens, lot.out_microtokens) AS out": "bigint",
}
_LOTS: Final = """
    ledger_lot AS lot
    LEFT JOIN ledger_lot_now AS now ON now.shard = lot.shard AND now.id = lot.id
"""
_PLACES: Final = """
    SELECT lot_id, microtokens
    FROM (
        SELECT shard, lot_id, at AS microtokens,
               sum(sum(step)) OVER (PARTITION BY shard, lot_id ORDER BY at) AS covered
        FROM ledger_movement
        CROSS JOIN LATERAL (VALUES
            (out_before_microtokens, 1), (out_before_microtokens + sign * microtokens, -1)
        ) AS edge (at, step)
        WHERE lot_id = ANY (%s)
        GROUP BY shard, lot_id, at
    ) AS position
    JOIN ledger_lot_now AS lot ON lot.shard = position.shard AND lot.id = position.lot_id
    WHERE covered <> CASE WHEN position.microtokens < lot.out_microtokens THEN 1 ELSE 0 END
    ORDER BY lot_id, microtokens
    LIMIT %s
"""
_SHARD_OF_ID: Final = 255


class Movements:
    """All lots, and what the movements seen so far make of them."""

    def __init__(self, broken: BrokenRows) -> None:
        lots = read(_LOTS, _LOT_COLUMNS)
        lots = lots[np.argsort(lots["id"])]
        self._broken = broken
        # A column that lies together is quicker to look things up in.
        self._ids: Integers = np.ascontiguousarray(lots["id"])
        self._account_ids = lots["account_id"].copy()
        self._effective = lots["effective_at"].copy()
        self._expires = lots["expires_at"].copy()
        self._granted = lots["granted"].copy()
        self._out = lots["out"].copy()
        self._sums = np.zeros(len(lots), np.int64)
        self._places = Places(len(lots))

    def take(self, rows: Rows, is_debit: npt.NDArray[np.bool_]) -> None:
        """Movements; `microtokens` below 0 came back."""
        lot_ids, account_ids = rows["lot_id"], rows["account_id"]
        at = np.searchsorted(self._ids, lot_ids)
        at[at == len(self._ids)] = 0
        known = np.zeros(len(rows), np.bool_)
        if len(self._ids):
            known = (self._ids[at] == lot_ids) & (rows["shard"] == lot_ids & _SHARD_OF_ID)
            known &= self._account_ids[at] == account_ids
        for row in np.flatnonzero(~known).tolist():
            self._broken.add(ACCOUNTS, (int(lot_ids[row]), int(account_ids[row])))
        rows, at, is_debit = pick_rows(rows, np.flatnonzero(known)), at[known], is_debit[known]
        self._look_at_times(rows, at, is_debit)
        microtokens = rows["microtokens"]
        begins = rows["out_before_microtokens"]
        np.add.at(self._sums, at, microtokens)
        self._places.add(at, begins, begins + microtokens)

    def judge(self) -> None:
        """When all movements were seen."""
        is_summed = self._sums == self._out
        is_summed &= (self._out >= 0) & (self._out <= self._granted)
        for lot_id in self._ids[~is_summed].tolist():
            self._broken.add(SUMS, (lot_id,))
        lot_ids = self._ids[self._places.broken(self._out)].tolist()
        if lot_ids:
            with connection.cursor() as cursor:
                cursor.execute(_PLACES, [lot_ids, BrokenRows.ROWS_MAX])
                for row in cursor.fetchall() or [(lot_id, 0) for lot_id in lot_ids]:
                    self._broken.add(NO_GAPS, row)

    def _look_at_times(self, rows: Rows, at: Integers, is_debit: npt.NDArray[np.bool_]) -> None:
        times = rows["occurred_at"]
        is_early_or_late = (times < self._effective[at]) | (times >= self._expires[at])
        for row in np.flatnonzero(is_debit & is_early_or_late).tolist():
            key = uuid.UUID(bytes=rows["run_key"][row].tobytes())
            self._broken.add(OWN_TIME, (key, int(rows["lot_id"][row])))
