"""Write a block: runs of one shard, debited and sealed all at once.

1. What they cost is taken from their accounts (ledger.standings), and they are laid over the
   accounts' lots (ledger.laying).
2. They are written by binary COPY, with an entry for each slice of a run that crossed lots. While
   PostgreSQL takes them in, the leaves that seal them are hashed (ledger.leaves).
3. The block itself is written: the root of its leaves, chained to the block before it
   (ledger.chain), and what it adds to usage totals (ledger.totals).
4. Holds are settled and limits counted, for accounts that have some (ledger.settling).
"""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ledger import chain, leaves, merkle, sql, standings, totals
from ledger.drawdown import Slice
from ledger.laying import Laid, lay, lay_ahead
from ledger.models import Entry
from ledger.packing import (
    COPY_TRAILER,
    POSTGRESQL_EPOCH_US,
    CopyFormat,
    Integers,
    Rows,
    bigints,
    instants,
    pick_rows,
    unpack_runs,
    uuids,
)
from ledger.settling import settle
from ledger.sql.prepared import Copy
from ledger.standings import Accounts, Costs

# What fits into a processor's cache.
_CHUNK_RUNS: Final = 1_000
_CHUNK_LEAVES: Final = 512

_RUN_COPY: Final = CopyFormat(
    "ledger_run",
    {
        "account_id": ">i8",
        "run_key": "V16",
        "part": ">i8",
        "occurred_at": ">i8",
        "sequence": ">i8",
        "microtokens": ">i8",
        "micros": ">i8",
        "lot_id": ">i8",
        "out_before_microtokens": ">i8",
        "attribution_key": "V16",
        "body_digest": ">i8",
        "block_number": ">i8",
        "submission_id": ">i8",
        "submission_position": ">i4",
        "block_position": ">i4",
        "engine_id": ">i4",
        "slices_count": ">i2",
        "flags": ">i2",
        "shard": ">i2",
    },
)


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """Runs of one shard in order of arrival, and where their details stand."""

    shard: int
    runs: Rows
    submission_ids: Integers
    positions: Integers

    @cached_property
    def has_parts(self) -> bool:
        """Whether some are parts of runs."""
        return bool(self.runs["part"].any())

    @staticmethod
    def of(shard: int, intakes: Sequence[tuple[int, int, bytes]]) -> "Waiting":
        """Of intakes in order of arrival: (submission id, runs, the runs packed)."""
        counts = [runs_count for _, runs_count, _ in intakes]
        packed = [packed for _, _, packed in intakes]
        return Waiting(
            shard=shard,
            runs=unpack_runs(packed[0] if len(packed) == 1 else b"".join(packed)),
            submission_ids=np.repeat([submission_id for submission_id, _, _ in intakes], counts),
            positions=np.concatenate([np.arange(count) for count in counts]),
        )

    def by_account(self) -> tuple[Integers, Integers]:
        """Its rows account after account, and their accounts' ids; within an account still in order
        of arrival."""
        # Sorting numbers that say both is several times as fast as sorting rows by their account.
        first = self.runs["account_id"].min()
        ids = self.runs["account_id"] - first
        bits = len(ids).bit_length()
        assert int(ids.max()) < 1 << (63 - bits), "more accounts than there can be"
        both: Integers = ids << bits | np.arange(len(ids))
        both.sort()
        return both & ((1 << bits) - 1), (both >> bits) + first

    def pick(self, rows: npt.NDArray[Any]) -> "Waiting":
        """These rows, in this order."""
        return Waiting(
            shard=self.shard,
            runs=pick_rows(self.runs, rows),
            submission_ids=self.submission_ids[rows],
            positions=self.positions[rows],
        )

    def keys(self) -> list[tuple[int, uuid.UUID, int]]:
        """(account id, run key, part) of each run."""
        columns = (self.runs[name].tolist() for name in ("account_id", "run_key", "part"))
        return [
            (account_id, uuid.UUID(bytes=key), part)
            for account_id, key, part in zip(*columns, strict=True)
        ]


def write_block(waiting: Waiting, head: chain.Head, *, is_last: bool, at: datetime) -> None:
    """Debit runs, all of them new, in order of arrival, after the shard's last block.

    The caller holds the shard's lock, and has nothing more to do in its transaction if `is_last`.
    """
    rows, account_ids = waiting.by_account()
    runs = waiting.runs
    costs = Costs.of(
        account_ids, runs["microtokens"][rows], runs["part"][rows] if waiting.has_parts else None
    )
    with standings.debiting(waiting.shard, costs) as debited:
        waiting = waiting.pick(rows)
        columns_of = partial(_columns, waiting, _Places.of(waiting.runs, costs), head.number + 1)
        expected = debited.expected
        laying = lay_ahead(waiting.shard, waiting.runs, expected) if expected else None
        columns = columns_of(expected, laying[0]) if expected and laying else {}
        accounts = debited.stand()
    if laying is None or accounts is not expected:
        laying = lay(waiting.shard, waiting.runs, accounts)
        columns = columns_of(accounts, laying[0])
    laid, move_on = laying
    with sql.copying(_RUN_COPY.statement) as copy:
        _give_runs(copy, columns)
        # PostgreSQL has all of them, and takes them in: what else there is to do is done meanwhile.
        tree = _tree(copy, columns, laid.crossing)
        moves = move_on()
        standings.remember(waiting.shard, accounts, moves.open_lots)
        block = chain.following(
            waiting.shard,
            head,
            runs_count=len(waiting.runs),
            submission_ids=(int(waiting.submission_ids.min()), int(waiting.submission_ids.max())),
            leaves=tree.leaves,
            root=tree.root(),
            microtokens=int(accounts.totals.sum()),
            micros=int(laid.micros.sum()),
            totals=totals.of_runs(waiting.runs, laid.micros),
            at=at,
        )
        entries = list(_entries(waiting, laid.crossing))
        del columns, tree
    assert copy.rows_count == len(waiting.runs)
    are_watched = accounts.watched.any()
    run_these = sql.finish if is_last and not are_watched else sql.in_one_go
    run_these(*moves.statements, *entries, block)
    if are_watched:
        watched = np.flatnonzero(np.repeat(accounts.watched, accounts.counts))
        settle(shard=waiting.shard, runs=waiting.runs[watched], micros=laid.micros[watched], at=at)


@dataclass(frozen=True, kw_only=True)
class _Places:
    """Where runs stand: in the block, and among their accounts' receipts."""

    in_block: Integers
    have_receipts: npt.NDArray[np.bool_]  # a part has none of its own
    before_last: Integers  # by how many receipts each comes before the last of its account

    @staticmethod
    def of(runs: Rows, costs: Costs) -> "_Places":
        have_receipts = np.asarray(runs["part"] == 0)
        until = np.cumsum(have_receipts)
        last_of_account = until[costs.begins + costs.counts - 1]
        return _Places(
            in_block=leaves.positions(costs.counts),
            have_receipts=have_receipts,
            before_last=np.repeat(last_of_account, costs.counts) - until,
        )


def _give_runs(copy: Copy, columns: dict[str, npt.NDArray[Any]]) -> None:
    """Chunk by chunk, so that PostgreSQL begins with the first."""
    runs_count = len(columns["shard"])
    for begin in range(0, runs_count, _CHUNK_RUNS):
        end = min(begin + _CHUNK_RUNS, runs_count)
        chunk = {name: column[begin:end] for name, column in columns.items()}
        copy.give(_RUN_COPY.pack(end - begin, chunk, is_first=begin == 0))
    copy.give(COPY_TRAILER)


def _tree(
    copy: Copy, columns: dict[str, npt.NDArray[Any]], crossing: dict[int, list[Slice]]
) -> merkle.Tree:
    """The tree over the runs' leaves, some of them at a time, while the copy goes on."""
    tree = merkle.Tree()
    begins = leaves.begins(columns["block_position"] // leaves.RUNS_PER_LEAF)
    edges = [*begins[::_CHUNK_LEAVES].tolist(), len(columns["shard"])]
    for number, (begin, end) in enumerate(pairwise(edges)):
        chunk = {name: column[begin:end] for name, column in columns.items()}
        of_chunk = begins[number * _CHUNK_LEAVES : (number + 1) * _CHUNK_LEAVES] - begin
        crossing_here = {
            row - begin: crossing[row] for row in crossing.keys() & set(range(begin, end))
        }
        tree.add(leaves.hashes(leaves.pack(end - begin, chunk), of_chunk, crossing_here))
        copy.go_on()
    return tree


def _columns(
    waiting: Waiting, places: _Places, block_number: int, accounts: Accounts, laid: Laid
) -> dict[str, npt.NDArray[Any]]:
    """What runs' rows and records say, by name."""
    runs = waiting.runs
    rows_count = len(runs)
    sequences = np.repeat(accounts.runs_count, accounts.counts) - places.before_last
    sequences[~places.have_receipts] = 0
    return {
        "account_id": runs["account_id"],
        "run_key": runs["run_key"],
        "part": runs["part"],
        "occurred_at": runs["occurred_at_us"] - POSTGRESQL_EPOCH_US,
        "occurred_at_us": runs["occurred_at_us"],
        "sequence": sequences,
        "microtokens": runs["microtokens"],
        "micros": laid.micros,
        "lot_id": laid.lot_ids,
        "out_before_microtokens": laid.out_before,
        "attribution_key": runs["attribution_key"],
        "body_digest": runs["body_digest"],
        "details_digest": runs["details_digest"],
        "block_number": np.broadcast_to(np.int64(block_number), rows_count),
        "block_position": places.in_block,
        "submission_id": waiting.submission_ids,
        "submission_position": waiting.positions,
        "engine_id": runs["engine_id"],
        "slices_count": laid.slices_counts,
        "flags": runs["flags"],
        "shard": np.broadcast_to(np.int64(waiting.shard), rows_count),
    }


def _entries(waiting: Waiting, crossing: dict[int, list[Slice]]) -> Iterator[sql.Statement]:
    """An entry for each slice of the runs that crossed lots."""
    if not crossing:
        return
    rows = np.repeat(list(crossing), [len(slices) for slices in crossing.values()])
    of = waiting.runs[rows]
    lot_ids, out_before, microtokens, _ = np.array(
        [one for slices in crossing.values() for one in slices], np.int64
    ).T
    yield (
        "enter_slices",
        {
            "shard": waiting.shard,
            "kind": Entry.Kind.DEBIT,
            "account_ids": bigints(of["account_id"]),
            "run_keys": uuids(of["run_key"]),
            "parts": bigints(of["part"]),
            "occurred_at": instants(of["occurred_at_us"]),
            "lot_ids": bigints(lot_ids),
            "out_before_microtokens": bigints(out_before),
            "microtokens": bigints(microtokens),
        },
    )
