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
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ledger import chain, leaves, merkle, sql, standings, totals
from ledger.drawdown import Slice
from ledger.laying import Laid, lay
from ledger.models import Entry
from ledger.packing import (
    COPY_TRAILER,
    POSTGRESQL_EPOCH_US,
    CopyFormat,
    Integers,
    Rows,
    bigints,
    instants,
    unpack_runs,
    uuids,
)
from ledger.settling import settle
from ledger.standings import Accounts

# About what a socket takes at once.
_CHUNK_RUNS: Final = 1_000

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

    @staticmethod
    def of(shard: int, intakes: Sequence[tuple[int, int, bytes]]) -> "Waiting":
        """Of intakes in order of arrival: (submission id, runs, the runs packed)."""
        counts = [runs_count for _, runs_count, _ in intakes]
        return Waiting(
            shard=shard,
            runs=unpack_runs(b"".join(packed for _, _, packed in intakes)),
            submission_ids=np.repeat([submission_id for submission_id, _, _ in intakes], counts),
            positions=np.concatenate([np.arange(count) for count in counts]),
        )

    def pick(self, rows: npt.NDArray[Any]) -> "Waiting":
        """These rows, in this order."""
        return Waiting(
            shard=self.shard,
            runs=self.runs[rows],
            submission_ids=self.submission_ids[rows],
            positions=self.positions[rows],
        )

    def by_account(self) -> "Waiting":
        """Account after account; within an account still in order of arrival."""
        ids = np.ascontiguousarray(self.runs["account_id"])
        if (ids[1:] >= ids[:-1]).all():
            return self
        return self.pick(np.argsort(ids, kind="stable"))

    def keys(self) -> list[tuple[int, uuid.UUID, int]]:
        """(account id, run key, part) of each run."""
        columns = (self.runs[name].tolist() for name in ("account_id", "run_key", "part"))
        return [
            (account_id, uuid.UUID(bytes=key), part)
            for account_id, key, part in zip(*columns, strict=True)
        ]


@dataclass(frozen=True, kw_only=True)
class _Sealed:
    """What the block says of its runs: hashes of leaves, their tree's root, the usage they add."""

    leaves: list[bytes]
    root: bytes
    totals: bytes


def write_block(waiting: Waiting, head: chain.Head, *, at: datetime) -> None:
    """Debit runs, all of them new, in order of arrival, after the shard's last block.

    The caller holds the shard's lock.
    """
    waiting = waiting.by_account()
    accounts = standings.debit(waiting.shard, waiting.runs)
    is_served = accounts.are_served(waiting.runs["occurred_at_us"])
    laid = lay(waiting.shard, waiting.runs, accounts, is_served)
    sequences = _sequences(waiting.runs, accounts)
    positions = leaves.positions(accounts.counts)
    columns = _columns(waiting, sequences, positions, laid, head.number + 1)
    sealed = _copy_runs(waiting, accounts, laid, columns)
    block = chain.following(
        waiting.shard,
        head,
        runs_count=len(waiting.runs),
        submission_ids=(int(waiting.submission_ids.min()), int(waiting.submission_ids.max())),
        leaves=sealed.leaves,
        root=sealed.root,
        microtokens=int(accounts.totals.sum()),
        micros=int(laid.micros.sum()),
        totals=sealed.totals,
        at=at,
    )
    sql.in_one_go(*laid.moves, *_entries(waiting, laid.crossing), block)
    watched = np.flatnonzero(np.repeat(accounts.watched, accounts.counts))
    if len(watched):
        settle(shard=waiting.shard, runs=waiting.runs[watched], micros=laid.micros[watched], at=at)


def _sequences(runs: Rows, accounts: Accounts) -> Integers:
    """The number of each run's receipt in its account; 0 for a part, which has none of its own."""
    has_receipt = runs["part"] == 0
    until = np.cumsum(has_receipt)
    last_of_account = np.repeat(until[accounts.begins + accounts.counts - 1], accounts.counts)
    sequences = np.repeat(accounts.runs_count, accounts.counts) - (last_of_account - until)
    return np.where(has_receipt, sequences, 0)


def _copy_runs(
    waiting: Waiting, accounts: Accounts, laid: Laid, columns: dict[str, npt.NDArray[Any]]
) -> _Sealed:
    """Write the runs, chunk by chunk. While PostgreSQL takes one in, its leaves are hashed, and
    all is done that can be done then."""
    begins = leaves.begins(columns["block_position"] // leaves.RUNS_PER_LEAF)
    tree = merkle.Tree()
    added = b""
    with sql.copying(_RUN_COPY.statement) as give:
        for begin, end in _chunks(begins, len(waiting.runs)):
            chunk = {name: column[begin:end] for name, column in columns.items()}
            give(_RUN_COPY.pack(end - begin, chunk, is_first=begin == 0))
            of_chunk = begins[(begins >= begin) & (begins < end)] - begin
            crossing = {
                row - begin: laid.crossing[row]
                for row in laid.crossing.keys() & set(range(begin, end))
            }
            tree.add(leaves.hashes(leaves.pack(end - begin, chunk), of_chunk, crossing))
            if not begin:
                standings.remember(waiting.shard, accounts)
                added = totals.of_runs(waiting.runs, laid.micros)
        give(COPY_TRAILER)
        root = tree.root()
    return _Sealed(leaves=tree.leaves, root=root, totals=added)


def _chunks(begins: Integers, runs_count: int) -> Iterator[tuple[int, int]]:
    """Rows from, and to, in whole leaves."""
    begin = 0
    while begin < runs_count:
        following = begins[begins >= begin + _CHUNK_RUNS]
        end = int(following[0]) if len(following) else runs_count
        yield begin, end
        begin = end


def _columns(
    waiting: Waiting, sequences: Integers, positions: Integers, laid: Laid, block_number: int
) -> dict[str, npt.NDArray[Any]]:
    """What runs' rows and records say, by name."""
    runs = waiting.runs
    rows_count = len(runs)
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
        "block_position": positions,
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
