"""Receipts given out with their proofs, to be checked without us (ledger/verify_receipts.py).

A receipt is a line: an array of its record's columns (ledger.leaves, ledger.amends), and its
details, exactly as they were hashed:

    [["R", block, position, run key, part, number, occurred at, microtokens, micros, lot id,
      out before, slices, flags, engine id, names, check], details]
    [["C", block, position, run key, version, recorded at, microtokens, micros, check], details]

`slices` is null unless the run drew on several lots; `check` begins the leaf's hash, so that a
line that was changed can be named. One run's proof also has what is sealed in the same leaf, runs
of the same account: their records in hex, and nothing else of them.

    [["S", block, position, record, check], null]

A block is a line of its header:

    [number, recorded at, leaves, previous hash, root, hash, lines, bytes, proof]

the last three only if leaves of this account are in it: how many lines, in how many bytes, and the
hashes that lead from them to the root (ledger.merkle). Of anyone else an export says nothing but
hashes, and how many leaves there are. docs/ledger/receipts.md shows all of it.
"""

import json
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from heapq import merge
from itertools import groupby
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
import psycopg
from django.db import connection, transaction

from ledger import beside, heads, merkle, sql
from ledger.accounts import AccountFacts
from ledger.errors import UnknownRun
from ledger.instants import to_us
from ledger.leaves import RUNS_PER_LEAF
from ledger.merkle import HASH_BYTES
from ledger.models import Block, Standing
from ledger.packing import details_text
from ledger.units import run_key

FORMAT: Final = 1
ROWS_PER_FETCH: Final = 5_000
SUBMISSIONS_AT_A_TIME: Final = 20  # each as large as a request may be
_CHECK_DIGITS: Final = 16
_HEADER_COLUMNS: Final = 6
_LAST: Final = 2**62

README: Final = """\
The receipts of one account, with proofs.

  account.json     whose they are, and how many
  receipts.jsonl   a receipt a line: its sealed columns, and its details as they were hashed
  blocks.jsonl     the chain of blocks that seal them, up to the last when this was exported
  heads.json       the blocks that were published, and when

Check it with verify_receipts.py (Python 3.11, nothing else), and give it the heads that you kept
from earlier:

  python verify_receipts.py THIS_FOLDER --heads KEPT.json
"""

_encode: Final = msgspec.json.encode
Progress = Callable[[int], None]  # so many receipts more


class Line(NamedTuple):
    """A receipt's line, but for its check."""

    block: int
    position: int
    columns: list[Any]
    details: bytes
    submission_id: int = 0  # with which a run came

    @property
    def leaf(self) -> int:
        """Its number in the block."""
        return self.position // RUNS_PER_LEAF

    @property
    def is_run(self) -> bool:
        return bool(self.columns[0] == "R")


@dataclass(frozen=True, kw_only=True)
class Exported:
    lines_count: int
    blocks_count: int
    heads_count: int


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """Which receipts: of one run or of all, in which blocks."""

    account: AccountFacts
    run_key: UUID | None = None
    first_block: int = 1
    last_block: int = _LAST

    @property
    def parameters(self) -> dict[str, Any]:
        return {
            "shard": self.account.shard,
            "account_id": self.account.id,
            "run_key": self.run_key,
            "first_block": self.first_block,
            "last_block": self.last_block,
        }


def export(
    *,
    account: AccountFacts,
    folder: Path,
    since: datetime | None = None,
    until: datetime | None = None,
    at: datetime,
    progress: Progress = lambda count: None,
) -> Exported:
    """Write all receipts of an account to a new folder, or those recorded in [since, until).

    It is there when it is whole. However many receipts there are, little is held in memory.
    Raises FileExistsError, and OSError where it can't be written.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} is there already")
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        with transaction.atomic():
            sql.see_one_state()
            exported = _write(
                _recorded(account, since, until),
                draft,
                facts=_facts(account, is_whole=since is None) | {"exported_at": at.isoformat()},
                progress=progress,
            )
        draft.chmod(0o755)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return exported


def receipts_count(*, account: AccountFacts) -> int:
    return Standing.objects.get(shard=account.shard, account_id=account.id).runs_count


def of_run(*, account: AccountFacts, run_id: str) -> dict[str, Any]:
    """The lines of one run (its parts' and corrections' too) with the blocks from its first to the
    next published head; what the verifier takes for itself. Raises UnknownRun.
    """
    asked = _Asked(account=account, run_key=run_key(run_id))
    with transaction.atomic():
        sql.see_one_state()
        lines = list(_lines(asked))
        if not lines:
            raise UnknownRun(account=account.code, run=run_id)
        published = heads.of_shard(shard=account.shard)
        first, last = lines[0].block, lines[-1].block
        following = [one for one in published if one.number >= last]
        until = following[0].number if following else _LAST
        receipts: list[bytes] = []
        blocks = list(
            _sealed(
                account.shard,
                merge(lines, _sealed_with(account, lines), key=_place),
                receipts.append,
                first_block=first,
                last_block=until,
            )
        )
    return {
        "account": _facts(account, is_whole=False) | {"lines": len(receipts)},
        "receipts": [line.decode().rstrip("\n") for line in receipts],
        "blocks": blocks,
        **heads.as_document([one for one in published if first <= one.number <= until]),
    }


def _facts(account: AccountFacts, *, is_whole: bool) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "account": account.code,
        "account_id": account.id,
        "shard": account.shard,
        "whole": is_whole,
    }


def _recorded(account: AccountFacts, since: datetime | None, until: datetime | None) -> _Asked:
    """Receipts of the blocks that were recorded in an interval: they are in order of time."""
    blocks = Block.objects.filter(shard=account.shard)
    first_block, last_block = 1, _LAST
    if since is not None:
        first = blocks.filter(recorded_at__gte=since).order_by("number").first()
        first_block = _LAST if first is None else first.number
    if until is not None:
        last = blocks.filter(recorded_at__lt=until).order_by("-number").first()
        last_block = 0 if last is None else last.number
    return _Asked(account=account, first_block=first_block, last_block=last_block)


def _write(asked: _Asked, folder: Path, *, facts: dict[str, Any], progress: Progress) -> Exported:
    lines_count = blocks_count = 0
    with (
        (folder / "receipts.jsonl").open("wb") as receipts,
        (folder / "blocks.jsonl").open("wb") as blocks,
    ):
        for header in _sealed(asked.account.shard, _lines(asked), receipts.write):
            blocks.write(_encode(header) + b"\n")
            blocks_count += 1
            if len(header) > _HEADER_COLUMNS:
                lines_count += header[_HEADER_COLUMNS]
                progress(header[_HEADER_COLUMNS])
    published = [
        one for one in heads.of_shard(shard=asked.account.shard) if one.number <= blocks_count
    ]
    _dump(folder / "heads.json", heads.as_document(published))
    (folder / "README.txt").write_text(README, "utf-8")
    _dump(folder / "account.json", facts | {"lines": lines_count})
    return Exported(lines_count=lines_count, blocks_count=blocks_count, heads_count=len(published))


def _dump(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def _sealed(
    shard: int,
    lines: Iterable[Line],
    write: Callable[[bytes], object],
    *,
    first_block: int = 1,
    last_block: int = _LAST,
) -> Iterator[list[Any]]:
    """Headers of blocks; while they go by, the lines of those that have some are written."""
    of_blocks = groupby(lines, key=lambda line: line.block)
    waiting = next(of_blocks, None)
    for number, recorded_at, count, previous, root, block_hash in _stream(
        "headers", shard=shard, first_block=first_block, last_block=last_block
    ):
        header = [
            number, to_us(recorded_at), count, previous.hex(), root.hex(), block_hash.hex(),
        ]  # fmt: skip
        if waiting is not None and waiting[0] == number:
            # A tree of one leaf is that leaf.
            leaves = [root] if count == 1 else _leaves(shard, number)
            header += _write_block(list(waiting[1]), leaves, write)
            waiting = next(of_blocks, None)
        yield header
    assert waiting is None, f"there is no block {waiting}: see manage.py check_ledger"


def _write_block(
    lines: Sequence[Line], leaves: Sequence[bytes], write: Callable[[bytes], object]
) -> tuple[int, int, str]:
    """How many lines, in how many bytes, and the proof that they are the block's."""
    checks = {line.leaf: leaves[line.leaf].hex()[:_CHECK_DIGITS] for line in lines}
    texts = [
        b"[%b,%b]\n" % (_encode([*line.columns, checks[line.leaf]]), line.details) for line in lines
    ]
    for text in texts:
        write(text)
    proof = merkle.inclusion_proof_of_all(leaves, list(checks))
    return len(lines), sum(map(len, texts)), b"".join(proof).hex()


def _leaves(shard: int, number: int) -> list[bytes]:
    [(packed,)] = sql.binary("leaves_of_block", shard=shard, number=number)
    return [packed[begin : begin + HASH_BYTES] for begin in range(0, len(packed), HASH_BYTES)]


def _lines(asked: _Asked) -> Iterator[Line]:
    """In order of their leaves."""
    return merge(_runs(asked), _corrections(asked), key=_place)


def _place(line: Line) -> tuple[int, int]:
    return line.block, line.position


def _sealed_with(account: AccountFacts, lines: Sequence[Line]) -> Iterator[Line]:
    """What the leaves of these lines seal beside them, in order."""
    known = {_place(line) for line in lines}
    of_leaves = {(line.block, line.leaf): line.submission_id for line in lines if line.is_run}
    for (block, leaf), submission_id in of_leaves.items():
        for position, record in beside.records(
            account=account, block=block, leaf=leaf, submission_id=submission_id
        ):
            if (block, position) not in known:
                yield Line(block, position, ["S", block, position, record.hex()], b"null")


def _corrections(asked: _Asked) -> Iterator[Line]:
    for block, position, key, version, recorded_at, microtokens, micros, details in _stream(
        "corrections_of_account", **asked.parameters
    ):
        columns = [
            "C", block, position, key.hex, version, to_us(recorded_at), microtokens, micros,
        ]  # fmt: skip
        yield Line(block, position, columns, details)


def _runs(asked: _Asked) -> Iterator[Line]:
    with _cursor("runs_of_account", asked.parameters) as cursor:
        while rows := cursor.fetchmany(ROWS_PER_FETCH):
            yield from _with_details(asked.account, rows)


def _with_details(account: AccountFacts, rows: list[tuple[Any, ...]]) -> Iterator[Line]:
    details = _details(account.shard, [(row[13], row[14]) for row in rows])
    slices = beside.slices(account=account, run_keys=[row[2] for row in rows if row[10] > 1])
    for row, text in zip(rows, details, strict=True):
        (
            block, position, key, part, number, occurred_at, microtokens, micros, lot_id,
            out_before, slices_count, flags, engine_id, submission_id, _, *names,
        ) = row  # fmt: skip
        of_run = [one[:3] for one in slices.get((key, part), [])] if slices_count > 1 else None
        columns = [
            "R", block, position, key.hex, part, number, to_us(occurred_at), microtokens, micros,
            lot_id, out_before, of_run, flags, engine_id, names,
        ]  # fmt: skip
        yield Line(block, position, columns, text, submission_id)


def _details(shard: int, places: list[tuple[int, int]]) -> list[bytes]:
    """By submission and position in it. Of a submission, which may have others' runs by the
    thousand, no more is kept than what is asked for."""
    positions: dict[int, set[int]] = defaultdict(set)
    for submission_id, position in places:
        positions[submission_id].add(position)
    wanted = sorted(positions)
    texts: dict[tuple[int, int], bytes] = {}
    for begin in range(0, len(wanted), SUBMISSIONS_AT_A_TIME):
        ids = wanted[begin : begin + SUBMISSIONS_AT_A_TIME]
        for found, runs_count, packed in sql.binary("details_of_submissions", shard=shard, ids=ids):
            for position in positions[found]:
                texts[found, position] = details_text(packed, runs_count, position)
    return [texts[place] for place in places]


def _stream(name: str, **parameters: Any) -> Iterator[tuple[Any, ...]]:
    with _cursor(name, parameters) as cursor:
        yield from cursor


def _cursor(name: str, parameters: dict[str, Any]) -> "psycopg.ServerCursor[tuple[Any, ...]]":
    """Of the database's own: rows come as they are fetched."""
    cursor = psycopg.ServerCursor(connection.connection, name)
    cursor.itersize = ROWS_PER_FETCH
    cursor.execute(sql.text(name).encode(), parameters, binary=True)
    return cursor
