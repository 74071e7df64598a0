"""How a block's accounts stand: what their runs cost is taken from each account's lot in use.

A worker remembers how the accounts stood that it debited, and the open lots of those that moved on,
so that the database need not tell of ten thousand at a time. It never trusts what it remembers for
that: each debit marks the rows it writes with a number of its own, drawn by chance, and whoever
else changes what is remembered sets the mark to 0 (lots change only after their account's lot in
use was put away, which does). A row that has the mark that was remembered with it stands as it is
remembered; of all others the update tells how they stand. So nothing has to be forgotten when a
transaction is undone, or when another worker debited meanwhile: the marks are others then. Holds
and limits are always told: they change without a mark.
"""

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ledger import sql
from ledger.packing import (
    POSTGRESQL_EPOCH_US,
    Integers,
    Rows,
    bigints,
    insert_rows,
    pick_rows,
    put_rows,
)

# Accounts of all shards, each of 72 bytes and, if it moved on to another lot, 80 for each open lot.
REMEMBERED_MAX: Final = 300_000

# What is remembered of an account, as sql/debit_accounts.sql tells it.
_STANDING: Final = np.dtype(
    [
        ("runs_count", np.int64),
        ("lot_id", np.int64),
        ("out", np.int64),
        ("granted", np.int64),
        ("price_micros", np.int64),
        ("from_at", np.int64),
        ("until_at", np.int64),
        ("mark", np.int64),
    ]
)
_TOLD: Final = tuple(_STANDING.names or ())[:-1]
_NO_MARK: Final = 1  # which no row has: marks are 0, or far from it
_MARKS: Final = 2**62


@dataclass(frozen=True, kw_only=True)
class Used:
    """Lots taken into use, each by one account."""

    lot_id: Integers
    out: Integers
    granted: Integers
    price_micros: Integers
    from_at_us: Integers
    until_at_us: Integers


@dataclass(frozen=True, kw_only=True)
class Accounts:
    """A block's accounts in order of id: what is debited, and how they stand after it.

    Account i has the runs of the rows begins[i] to begins[i] + counts[i].
    """

    ids: Integers
    begins: Integers
    counts: Integers
    totals: Integers
    runs_count: Integers
    lot_id: Integers  # 0: none in use
    out: Integers
    granted: Integers
    price_micros: Integers
    from_at_us: Integers
    until_at_us: Integers
    watched: npt.NDArray[np.bool_]  # by a hold or a limit
    mark: int
    memory: "_Memory"

    def pick(self, rows: npt.NDArray[Any]) -> "Accounts":
        """These accounts, in this order."""
        own = {"mark": self.mark, "memory": self.memory}
        columns = (field.name for field in fields(self) if field.name not in own)
        return Accounts(**own, **{name: getattr(self, name)[rows] for name in columns})  # type: ignore[arg-type]

    @property
    def open_lots(self) -> list[bytes | None]:
        """Of each its open lots, packed, if they are remembered."""
        return [self.memory.lots.get(one) for one in self.ids.tolist()]

    def take_into_use(self, rows: npt.NDArray[Any], used: Used) -> None:
        """These accounts have lots of these in use now."""
        for field in fields(used):
            getattr(self, field.name)[rows] = getattr(used, field.name)

    def are_served(self, times_us: Integers) -> npt.NDArray[np.bool_]:
        """Those whose lot in use serves all their runs; `times_us` are the runs'."""
        return np.asarray(
            (self.lot_id != 0)
            & (self.out <= self.granted)
            & (np.minimum.reduceat(times_us, self.begins) >= self.from_at_us)
            & (np.maximum.reduceat(times_us, self.begins) < self.until_at_us)
        )


class _Memory:
    """The accounts of one shard, for one debit at a time. Whoever fails while it learns loses it:
    what of it belongs together must never come apart."""

    def __init__(self) -> None:
        self._ids = np.zeros(0, np.int64)  # in order
        self._standings = np.zeros(0, _STANDING)
        self.lots: dict[int, bytes] = {}  # of accounts: as ledger.laying packs them

    def __len__(self) -> int:
        return len(self._ids)

    def of(self, ids: Integers) -> tuple[Integers, Callable[[], Rows]]:
        """The marks of these accounts, in order; and, when it is asked for, how they stood.

        Those that are not known have no mark.
        """
        places, are_known = self._places(ids)
        marks = np.full(len(ids), _NO_MARK)
        marks[are_known] = self._standings["mark"][places[are_known]]

        def standings() -> Rows:
            found = np.zeros(len(ids), _STANDING)
            put_rows(found, are_known, pick_rows(self._standings, places[are_known]))
            return found

        return marks, standings

    def learn(self, ids: Integers, standings: Rows) -> None:
        places, are_known = self._places(ids)
        known = pick_rows(standings, np.flatnonzero(are_known))
        put_rows(self._standings, places[are_known], known)
        if not are_known.all():
            new = np.flatnonzero(~are_known)
            self._ids = np.insert(self._ids, places[new], ids[new])
            self._standings = insert_rows(self._standings, places[new], pick_rows(standings, new))

    def _places(self, ids: Integers) -> tuple[Integers, npt.NDArray[np.bool_]]:
        """Where they are, or belong, and which of them are there."""
        places = np.searchsorted(self._ids, ids)
        are_known = places < len(self._ids)
        are_known[are_known] = self._ids[places[are_known]] == ids[are_known]
        return places, are_known


_memories: dict[int, _Memory] = {}


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What runs cost their accounts, which are in order: account i has the next counts[i] runs."""

    ids: Integers
    begins: Integers
    counts: Integers
    totals: Integers
    receipts_counts: Integers

    @staticmethod
    def of(account_ids: Integers, microtokens: Integers, parts: Integers | None) -> "Costs":
        """Of runs account after account; `parts` are None if none is a part of a run."""
        begins = np.flatnonzero(np.diff(account_ids, prepend=-1))
        counts = np.diff(begins, append=len(account_ids))
        receipts_counts = counts
        if parts is not None:
            receipts_counts = np.add.reduceat(parts == 0, begins, dtype=np.int64)
        return Costs(
            ids=account_ids[begins],
            begins=begins,
            counts=counts,
            totals=np.add.reduceat(microtokens, begins),
            receipts_counts=receipts_counts,
        )


@dataclass(frozen=True, kw_only=True)
class Debited:
    """Accounts from which runs' costs were taken, or are being taken."""

    # As they stand if all of them are as they are remembered; None if some are not remembered.
    expected: Accounts | None
    # How they stand: `expected` itself if that was right, which else says nothing any more. To be
    # called once.
    stand: Callable[[], Accounts]


@contextmanager
def debiting(shard: int, costs: Costs) -> Iterator[Debited]:
    """Take what runs cost from their accounts. How these stand is asked for within it, once; until
    then there is time for something else.

    The caller holds the shard's lock.
    """
    ids = costs.ids
    assert (np.diff(ids) > 0).all(), "the statement finds an account's place by halving"
    memory = _memories.pop(shard, None) or _Memory()
    marks, remembered = memory.of(ids)
    mark = 2 + secrets.randbelow(_MARKS)
    with sql.asking_columns(
        "debit_accounts",
        shard=shard,
        account_ids=bigints(ids),
        receipts_counts=bigints(costs.receipts_counts),
        microtokens=bigints(costs.totals),
        marks=bigints(marks),
        mark=mark,
    ) as answer:
        standings, watched = remembered(), np.zeros(len(ids), np.bool_)
        _take(standings, costs, slice(None))
        expected = _accounts(costs, standings, watched, mark, memory)

        def stand() -> Accounts:
            [count], told, are_others, watchers, *columns = answer()
            assert count == len(ids), "a run's account is always there"
            assert np.isin(ids[marks == _NO_MARK], told).all()
            places = np.searchsorted(ids, told)
            watched[places] = watchers > 0
            if not are_others.any():
                return expected
            others = places[are_others == 1]
            for one in ids[others].tolist() if memory.lots else ():
                memory.lots.pop(one, None)
            for name, column in zip(_TOLD, columns, strict=True):
                standings[name][others] = column[are_others == 1]
            _take(standings, costs, others)
            return _accounts(costs, standings, watched, mark, memory)

        all_are_known = bool((marks != _NO_MARK).all())
        yield Debited(expected=expected if all_are_known else None, stand=stand)


def _take(standings: Rows, costs: Costs, accounts: Integers | slice) -> None:
    """Number receipts, and take what runs cost, of these accounts."""
    standings["runs_count"][accounts] += costs.receipts_counts[accounts]
    standings["out"][accounts] += costs.totals[accounts]


def _accounts(
    costs: Costs, standings: Rows, watched: npt.NDArray[np.bool_], mark: int, memory: _Memory
) -> Accounts:
    return Accounts(
        ids=costs.ids,
        begins=costs.begins,
        counts=costs.counts,
        totals=costs.totals,
        runs_count=standings["runs_count"],
        lot_id=standings["lot_id"],
        out=standings["out"],
        granted=standings["granted"],
        price_micros=standings["price_micros"],
        from_at_us=standings["from_at"] + POSTGRESQL_EPOCH_US,
        until_at_us=standings["until_at"] + POSTGRESQL_EPOCH_US,
        watched=watched,
        mark=mark,
        memory=memory,
    )


def remember(shard: int, accounts: Accounts, lots: Mapping[int, bytes]) -> None:
    """How these accounts stand now, with the lots in use that serve what comes next; and the open
    lots of some of them."""
    standings = np.empty(len(accounts.ids), _STANDING)
    standings["mark"] = accounts.mark
    for name in ("runs_count", "lot_id", "out", "granted", "price_micros"):
        standings[name] = getattr(accounts, name)
    standings["from_at"] = accounts.from_at_us - POSTGRESQL_EPOCH_US
    standings["until_at"] = accounts.until_at_us - POSTGRESQL_EPOCH_US
    memory = accounts.memory
    memory.learn(accounts.ids, standings)
    memory.lots.update(lots)
    if len(memory) + sum(map(len, list(_memories.values()))) > REMEMBERED_MAX:
        _memories.clear()
    if len(memory) <= REMEMBERED_MAX:
        _memories[shard] = memory
