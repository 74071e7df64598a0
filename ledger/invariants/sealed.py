"""Of runs, the details they came with, and the blocks that seal both: read from end to end.

Each leaf is built again from its runs' rows and details (ledger.leaves), and must be the one that
its block has at its place. Runs are put together to whole blocks as they come; as rows
lie in the order in which blocks were written, few blocks are incomplete at a time.
"""

import hashlib
import uuid
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
from django.db import connection

from ledger import leaves, units
from ledger.drawdown import Slice
from ledger.invariants.rows import BrokenRows
from ledger.invariants.scanning import bytes_of
from ledger.merkle import HASH_BYTES
from ledger.packing import IN_PARTS, POSTGRESQL_EPOCH_US, Integers, Rows, RunDetails, pick_rows

COSTS: Final = "a run costs the sum of its inferences, and its details name it"
LEAVES: Final = "each run is sealed by the leaf that its block has at its position"
NAMES: Final = (COSTS, LEAVES)

RUN_COLUMNS: Final = {
    "shard": "smallint",
    "account_id": "bigint",
    "run_key": "uuid",
    "part": "bigint",
    "sequence": "bigint",
    "occurred_at": "timestamptz",
    "microtokens": "bigint",
    "micros": "bigint",
    "lot_id": "bigint",
    "out_before_microtokens": "bigint",
    "slices_count": "smallint",
    "flags": "smallint",
    "engine_id": "integer",
    "attribution_key": "uuid",
    "block_number": "bigint",
    "block_position": "integer",
    "submission_id": "bigint",
    "submission_position": "integer",
}
# Columns of a record that stand in the run's row as they are.
_OF_THE_ROW: Final = [name for name in leaves.RECORD.names or () if name in RUN_COLUMNS]

_BLOCKS: Final = """
    SELECT block.shard, block.number, block.runs_count, block.leaves,
           block.first_submission_id, block.last_submission_id
    FROM unnest(%(shards)s::int[], %(numbers)s::bigint[]) AS asked (shard, number)
    JOIN ledger_block AS block ON block.shard = asked.shard AND block.number = asked.number
"""
_DETAILS: Final = """
    SELECT submission.shard, submission.id, submission.runs_count, submission.details
    FROM unnest(%(shards)s::int[], %(numbers)s::bigint[]) AS asked (shard, id)
    JOIN ledger_submission AS submission
        ON submission.shard = asked.shard AND submission.id = asked.id
"""
_SLICES: Final = """
    SELECT entry.account_id, entry.run_key, entry.part, entry.lot_id, entry.out_before_microtokens,
           entry.microtokens
    FROM unnest(%(account_ids)s::bigint[], %(keys)s::uuid[], %(parts)s::bigint[])
        AS asked (account_id, run_key, part)
    JOIN ledger_entry AS entry
        ON entry.shard = (asked.account_id & 255)::smallint AND entry.kind = 'debit'
       AND entry.account_id = asked.account_id AND entry.run_key = asked.run_key
       AND entry.part = asked.part
    ORDER BY entry.id
"""
_EMPTY_BLOCKS: Final = """
    SELECT shard, number
    FROM ledger_block AS block
    WHERE runs_count > 0 AND NOT EXISTS (
        SELECT FROM ledger_run AS run
        WHERE run.shard = block.shard AND run.block_number = block.number
    )
    ORDER BY shard, number
    LIMIT %s
"""
_NO_DETAILS: Final = bytes(HASH_BYTES)

_UNREADABLE: Final = RunDetails(run_id="", account_id=-1, inferences=[])
# A UUID with its dashes.
_SPELLED_LENGTH: Final = 36
_DASHES: Final = [8, 13, 18, 23]
_NO_UUID: Final = _SPELLED_LENGTH * " "

Place = tuple[int, int]  # a shard, and a block or submission of it


@dataclass(kw_only=True)
class _Block:
    runs_count: int
    leaves: bytes
    submission_ids: tuple[int, int]
    parts: list[Rows] = field(default_factory=list)

    @property
    def missing_count(self) -> int:
        return self.runs_count - sum(len(part) for part in self.parts)


class Receipts:
    """Blocks of which some runs were seen, and not yet all."""

    def __init__(self, broken: BrokenRows) -> None:
        self._broken = broken
        self._blocks: dict[Place, _Block] = {}
        self._whole_count = 0
        self._decode = msgspec.json.Decoder(RunDetails).decode

    def take(self, rows: Rows) -> None:
        whole: list[_Block] = []
        groups = _by_place(rows, "block_number")
        self._know([place for place, _ in groups])
        for place, indices in groups:
            block = self._blocks.get(place)
            if block is None:
                self._without_block(place, pick_rows(rows, indices))
                continue
            block.parts.append(pick_rows(rows, indices))
            if block.missing_count <= 0:
                del self._blocks[place]
                self._whole_count += 1
                whole.append(block)
        if whole:
            self._check(whole)

    def judge(self) -> None:
        """When all runs were seen."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM ledger_block WHERE runs_count > 0")
            [blocks_count] = cursor.fetchone()
            # There is no index for it, and nearly always no need.
            if blocks_count != self._whole_count + len(self._blocks):
                cursor.execute(_EMPTY_BLOCKS, [BrokenRows.ROWS_MAX])
                for shard, number in cursor.fetchall():
                    self._broken.add(LEAVES, (shard, number, "all of its runs are missing"))
        for (shard, number), block in self._blocks.items():
            self._broken.add(LEAVES, (shard, number, f"{block.missing_count} runs are missing"))

    def _know(self, places: list[Place]) -> None:
        new = [place for place in places if place not in self._blocks]
        for shard, number, runs_count, packed, *submission_ids in _found(_BLOCKS, new):
            self._blocks[shard, number] = _Block(
                runs_count=runs_count,
                leaves=packed,
                submission_ids=(submission_ids[0], submission_ids[1]),
            )

    def _without_block(self, place: Place, rows: Rows) -> None:
        for row in rows:
            key = uuid.UUID(bytes=row["run_key"].tobytes())
            self._broken.add(LEAVES, (*place, int(row["block_position"]), key))

    def _check(self, whole: list[_Block]) -> None:
        """Whole blocks: every leaf has its runs, and they are what it seals."""
        of_blocks = [_in_order(np.concatenate(block.parts)) for block in whole]
        for block, runs in zip(whole, of_blocks, strict=True):
            self._compare_submissions(block, runs)
        runs = np.concatenate(of_blocks)
        digests = self._digests(runs)
        begins = _leaves_of(runs)
        built = np.frombuffer(b"".join(_hashes(runs, digests, begins)), f"V{HASH_BYTES}")
        sealed = np.frombuffer(b"".join(block.leaves for block in whole), f"V{HASH_BYTES}")
        counts = np.array([len(block.leaves) // HASH_BYTES for block in whole])
        of_block = np.repeat(np.arange(len(whole)), [len(one) for one in of_blocks])[begins]
        numbers = runs["block_position"][begins] // leaves.RUNS_PER_LEAF
        is_inside = (numbers >= 0) & (numbers < counts[of_block])
        at = np.where(is_inside, (np.cumsum(counts) - counts)[of_block] + numbers, 0)
        stands = is_inside & (_words(built) == _words(sealed[at])).all(axis=1)
        ends = np.append(begins[1:], len(runs))
        # A leaf's hash follows from the order of its runs alone: none may have another's place.
        places = runs["block_position"] % leaves.RUNS_PER_LEAF
        expected = np.arange(len(runs)) - np.repeat(begins, ends - begins)
        stands &= np.logical_and.reduceat(places == expected, begins)
        for leaf in np.flatnonzero(~stands).tolist():
            begin, end = int(begins[leaf]), int(ends[leaf])
            self._tell_leaf(runs[begin:end], digests[begin:end])
        if len(np.unique(at[is_inside])) != len(sealed):
            self._tell_leaves_without_runs(whole, of_block[is_inside], numbers[is_inside])

    def _tell_leaves_without_runs(
        self, whole: list[_Block], of_block: Integers, numbers: Integers
    ) -> None:
        found = set(zip(of_block.tolist(), numbers.tolist(), strict=True))
        for at, block in enumerate(whole):
            for number in range(len(block.leaves) // HASH_BYTES):
                if (at, number) not in found:
                    place = (int(block.parts[0][name][0]) for name in ("shard", "block_number"))
                    self._broken.add(LEAVES, (*place, f"leaf {number} has no runs"))

    def _compare_submissions(self, block: _Block, runs: Rows) -> None:
        ids = runs["submission_id"]
        if (int(ids.min()), int(ids.max())) != block.submission_ids:
            place = (int(runs[name][0]) for name in ("shard", "block_number"))
            self._broken.add(LEAVES, (*place, "its runs came with other submissions"))

    def _tell_leaf(self, runs: Rows, digests: list[bytes]) -> None:
        # Details that are not there are told as such.
        if any(digest is _NO_DETAILS for digest in digests):
            return
        for run in runs:
            place = (int(run[name]) for name in ("shard", "block_number", "block_position"))
            self._broken.add(LEAVES, (*place, uuid.UUID(bytes=run["run_key"].tobytes())))

    def _digests(self, runs: Rows) -> list[bytes]:
        """Of each run's details; on the way, whether they say what the run's row says."""
        groups = _by_place(runs, "submission_id")
        found = {
            (shard, number): (runs_count, packed)
            for shard, number, runs_count, packed in _found(_DETAILS, [one for one, _ in groups])
        }
        texts: list[bytes | None] = [None] * len(runs)
        for place, indices in groups:
            if place not in found:
                self._broken.add(COSTS, (*place, "has no details"))
                continue
            positions = runs["submission_position"][indices]
            try:
                of_submission = _texts(*found[place], positions)
            except (ValueError, IndexError) as error:
                self._broken.add(COSTS, (*place, str(error)))
                continue
            for index, text in zip(indices.tolist(), of_submission, strict=True):
                texts[index] = text
        self._compare(runs, texts)
        sha256 = hashlib.sha256
        return [_NO_DETAILS if text is None else sha256(text).digest() for text in texts]

    def _compare(self, runs: Rows, texts: list[bytes | None]) -> None:
        """Nearly every run has one inference, and an id that is its own key: those together."""
        ids, account_ids, costs = self._said(texts)
        is_plain = _are_spelled(ids, runs["run_key"]) & (runs["flags"] == 0)
        is_plain &= (runs["account_id"] == account_ids) & (runs["microtokens"] == costs)
        for row in np.flatnonzero(~is_plain).tolist():
            text = texts[row]
            if text is not None:
                self._compare_one(runs[row], text)

    def _said(self, texts: list[bytes | None]) -> tuple[list[str], list[int], list[int]]:
        """Of each run its id, its account, and what its only inference costs; -1: see yourself."""
        decode = self._decode
        ids: list[str] = []
        account_ids: list[int] = []
        costs: list[int] = []
        for text in texts:
            try:
                details = decode(text or b"")
            except (msgspec.DecodeError, UnicodeDecodeError):
                details = _UNREADABLE
            inferences = details.inferences
            is_plain = len(inferences) == 1 and details.unusual is None
            ids.append(details.run_id)
            account_ids.append(details.account_id)
            costs.append(inferences[0].microtokens if is_plain else -1)
        return ids, account_ids, costs

    def _compare_one(self, run: np.void, text: bytes) -> None:
        account_id, key = int(run["account_id"]), uuid.UUID(bytes=run["run_key"].tobytes())
        try:
            details = self._decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._broken.add(COSTS, (account_id, str(error)))
            return
        # Of a run that came in parts it is they that cost something: its own row has their
        # first's details, and says nothing of its own.
        charged = 0 if run["flags"] & IN_PARTS else details.charged_microtokens
        if (details.account_id, charged, units.run_key(details.run_id)) != (
            account_id,
            int(run["microtokens"]),
            key,
        ):
            self._broken.add(COSTS, (account_id, key, details.run_id))


def _are_spelled(ids: list[str], keys: Rows) -> npt.NDArray[np.bool_]:
    """Which of these ids are UUIDs, spelled with dashes, and their own keys."""
    joined = "".join(ids)
    if set(map(len, ids)) != {_SPELLED_LENGTH} or not joined.isascii():
        joined = "".join(
            one if len(one) == _SPELLED_LENGTH and one.isascii() else _NO_UUID for one in ids
        )
    letters = np.frombuffer(joined.encode(), np.uint8).reshape(-1, _SPELLED_LENGTH)
    digits = np.frombuffer(keys.tobytes().hex().encode(), np.uint8).reshape(-1, 32)
    stands = (letters[:, _DASHES] == ord("-")).all(axis=1)
    stands &= (np.delete(letters, _DASHES, axis=1) == digits).all(axis=1)
    return np.asarray(stands, np.bool_)


def _by_place(rows: Rows, column: str) -> list[tuple[Place, Integers]]:
    """The rows of each block or submission, as indices."""
    shards, numbers = rows["shard"], rows[column]
    order = np.lexsort((numbers, shards))
    shards, numbers = shards[order], numbers[order]
    is_next = (np.diff(shards) != 0) | (np.diff(numbers) != 0)
    begins = np.concatenate([[0], np.flatnonzero(is_next) + 1])
    places = zip(shards[begins].tolist(), numbers[begins].tolist(), strict=True)
    return list(zip(places, np.split(order, begins[1:]), strict=True))


def _found(statement: str, places: list[Place]) -> list[tuple[Any, ...]]:
    if not places:
        return []
    shards, numbers = (list(column) for column in zip(*places, strict=True))
    return bytes_of(statement, shards=shards, numbers=numbers)


def _texts(runs_count: int, packed: bytes, positions: Integers) -> list[bytes]:
    """The details at these positions of a submission. Raises ValueError and IndexError."""
    offsets = np.frombuffer(packed, "<u4", runs_count + 1).astype(np.int64) + 4 * (runs_count + 1)
    begins, ends = offsets[positions].tolist(), offsets[positions + 1].tolist()
    return [packed[begin:end] for begin, end in zip(begins, ends, strict=True)]


def _in_order(runs: Rows) -> Rows:
    return pick_rows(runs, np.argsort(runs["block_position"], kind="stable"))


def _leaves_of(runs: Rows) -> Integers:
    """Where leaves begin, of runs of several blocks, each in order of position."""
    is_next = np.diff(runs["block_position"] // leaves.RUNS_PER_LEAF, prepend=-1) != 0
    for name in ("shard", "block_number"):
        is_next |= np.diff(runs[name], prepend=-1) != 0
    return np.flatnonzero(is_next)


def _hashes(runs: Rows, digests: list[bytes], begins: Integers) -> list[bytes]:
    columns: dict[str, Any] = {name: runs[name] for name in _OF_THE_ROW}
    columns["occurred_at_us"] = runs["occurred_at"] + POSTGRESQL_EPOCH_US
    columns["details_digest"] = np.frombuffer(b"".join(digests), f"V{HASH_BYTES}")
    return leaves.hashes(leaves.pack(len(runs), columns), begins, _slices_of_crossing(runs))


def _slices_of_crossing(runs: Rows) -> dict[int, list[Slice]]:
    rows = np.flatnonzero(runs["slices_count"] > 1).tolist()
    if not rows:
        return {}
    names = [
        (
            int(runs["account_id"][row]),
            uuid.UUID(bytes=runs["run_key"][row].tobytes()),
            int(runs["part"][row]),
        )
        for row in rows
    ]
    account_ids, keys, parts = (list(column) for column in zip(*names, strict=True))
    slices: dict[int, list[Slice]] = {row: [] for row in rows}
    of_name = dict(zip(names, rows, strict=True))
    for account_id, key, part, *of_one in bytes_of(
        _SLICES, account_ids=account_ids, keys=keys, parts=parts
    ):
        lot_id, out_before, microtokens = of_one
        slices[of_name[account_id, key, part]].append(Slice(lot_id, out_before, microtokens, 0))
    return slices


def _words(hashes: Rows) -> npt.NDArray[np.uint64]:
    return np.ascontiguousarray(hashes).view(np.uint64).reshape(-1, HASH_BYTES // 8)
