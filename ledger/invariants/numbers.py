"""Of the accounts of runs, and the numbers of their receipts, as runs are read from end to end."""

import uuid
from typing import Final

import numpy as np

from ledger.invariants.places import Places
from ledger.invariants.rows import BrokenRows
from ledger.invariants.scanning import read
from ledger.packing import Rows

NO_GAPS: Final = "receipts of an account are numbered without gaps"
HAS_ACCOUNT: Final = "a run has an account"
NAMES: Final = (NO_GAPS, HAS_ACCOUNT)

_COLUMNS: Final = {"account_id": "bigint", "shard": "smallint", "runs_count": "bigint"}


class Numbers:
    """All accounts. Receipt n is a stretch from n - 1 to n: together they reach the last one."""

    def __init__(self, broken: BrokenRows) -> None:
        accounts = read("ledger_standing", _COLUMNS)
        accounts = accounts[np.argsort(accounts["account_id"])]
        self._broken = broken
        self._ids = accounts["account_id"].copy()
        self._shards = accounts["shard"].copy()
        self._runs_counts = accounts["runs_count"].copy()
        self._places = Places(len(accounts))

    def take(self, runs: Rows) -> None:
        account_ids = runs["account_id"]
        at = np.searchsorted(self._ids, account_ids)
        at[at == len(self._ids)] = 0
        known = np.zeros(len(runs), np.bool_)
        if len(self._ids):
            known = (self._ids[at] == account_ids) & (self._shards[at] == runs["shard"])
        for row in np.flatnonzero(~known).tolist():
            key = uuid.UUID(bytes=runs["run_key"][row].tobytes())
            self._broken.add(HAS_ACCOUNT, (int(account_ids[row]), key))
        numbered = known & (runs["part"] == 0)
        numbers = runs["sequence"][numbered]
        self._places.add(at[numbered], numbers - 1, numbers)

    def judge(self) -> None:
        """When all runs were seen."""
        for account_id in self._ids[self._places.broken(self._runs_counts)].tolist():
            self._broken.add(NO_GAPS, (account_id,))
