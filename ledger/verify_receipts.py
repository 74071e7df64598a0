"""Check an export of receipts, without trusting whoever made it.

This file stands alone: Python 3.11 and its standard library are all it needs. Copy it, read it,
run it on what `manage.py export_receipts` wrote, or on what the API answers for one run's proof:

    python verify_receipts.py DIR --heads heads-i-kept.json

Every leaf is built again from its receipts, byte by byte, and with the hashes beside it must lead
to the root that its block names; every block names the hash of the block before it; and the heads
that were published, those in the export and those that you kept, must be blocks of that chain. So
an edit, a deletion, a reordering and a missing end are found, and the first place is named. The
format is described in docs/ledger/receipts.md.
"""

import argparse
import hashlib
import json
import mmap
import os
import struct
import sys
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

FORMAT = 1
EXAMPLES = """
examples:
  verify_receipts.py acme-2026-06                        the folder that export_receipts wrote
  verify_receipts.py acme-2026-06 --heads kept.json      and that it fits the heads you kept
  verify_receipts.py proof.json --heads kept.json        the proof of one run, as the API gave it
  verify_receipts.py acme-2026-06 --json                 {"sound": true, "receipts": 118, ...}

Exits with 0 if everything holds, with 1 if anything does not, and with 2 if there is nothing that
could be read. Keep heads where whoever made the export can't change them: without any, a chain
that was written anew from its first block would be as good as the old one.
"""

# A run's record: R, shard, account, run key, part, number, time, microtokens, micros, lot, out
# before, how many slices, flags, engine, key of the attribution, digest of the details. A leaf is
# 0, then the records of up to sixteen runs, or one correction's.
_RUN = struct.Struct(">chq16sqqqqqqqhhi16s32s")
_CORRECTION = struct.Struct(">chq16siqqq32s")
_RUNS_PER_LEAF = 16
_KEY = slice(11, 27)  # in a run's record
_SLICE = struct.Struct(">qqq")
_HEADER = struct.Struct(">hqqq32s32s")
_NO_BLOCK = bytes(32)
_FAILED, _NOT_CHARGED, _RETAKE, _IN_PARTS = 1, 2, 4, 8

_CHUNK_BYTES = 4_000_000
_FINDINGS_MAX = 10
_NOWHERE = 2**63  # the block of what is no block's, after all others
# What a text that is not what it should be makes the code below raise.
_UNREADABLE = (
    ValueError, TypeError, KeyError, IndexError, AttributeError, StopIteration, struct.error,
    RecursionError, OverflowError,
)  # fmt: skip

_sha256 = hashlib.sha256
# A value of JSON that begins at this place of a text, and where it ends.
_scan: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder().scan_once  # type: ignore[attr-defined]


class Account(NamedTuple):
    """Whose receipts they are, and which."""

    code: str
    id: int
    shard: int
    is_whole: bool  # from the first receipt on, and the chain from its first block
    lines_count: int
    is_of_one_run: bool  # of others that are sealed with it there is but the record


class Finding(NamedTuple):
    """Something that does not hold, and where: the block, and the leaf's position in it."""

    block: int
    position: int
    receipt: int | None
    message: str


class Line(NamedTuple):
    """A line that can be read: what is sealed of it, and where."""

    block: int
    position: int
    receipt: int | None
    record: bytes
    check: str


class Block(NamedTuple):
    """A block, and how many of its receipts stand in the export, in how many bytes."""

    number: int
    leaves_count: int
    previous: bytes
    root: bytes
    hash: bytes
    lines_count: int
    bytes_count: int
    proof: bytes


def _order(one: Finding) -> tuple[int, int]:
    return one.block, one.position


class Corrected(NamedTuple):
    """A correction, or (version 1, a part: 0) a run that has some: what it adds to the cost."""

    block: int
    position: int
    key: str
    version: int
    microtokens: int


@dataclass
class Chunk:
    """What was found in a stretch of lines: those of whole blocks."""

    bytes_count: int = 0
    findings: list[Finding] = field(default_factory=list)
    lines_count: int = 0
    receipts_count: int = 0
    first_number: int = 0
    last_number: int = 0
    corrected: list[Corrected] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)  # in a proof: of the run, and of the others
    keys_beside: set[str] = field(default_factory=set)


class LinesChecker:
    """Checks the lines of whole blocks, one after another."""

    def __init__(self, account: Account, corrected_keys: frozenset[str]) -> None:
        self._account = account
        self._corrected_keys = corrected_keys
        self._attributions: dict[tuple[str, ...], bytes] = {}
        self._chunk = Chunk()

    def check(self, packed: bytes, blocks: Sequence[Block]) -> Chunk:
        """The lines of these blocks, end to end."""
        self._chunk = Chunk(bytes_count=len(packed))
        begin = 0
        for block in blocks:
            text = packed[begin : begin + block.bytes_count].decode("utf-8", "replace")
            lines = self._lines(block, text)
            self._check_leaves(block, len(lines), self._leaves(lines))
            begin += block.bytes_count
        self._chunk.findings = sorted(self._chunk.findings, key=_order)[:_FINDINGS_MAX]
        return self._chunk

    def _lines(self, block: Block, text: str) -> list[Line]:
        found: list[Line] = []
        last = -1
        for text_of_line in text.split("\n"):
            if not text_of_line:
                continue
            self._chunk.lines_count += 1
            try:
                line = self._line(text_of_line)
            except _UNREADABLE as error:
                message = f"a line can't be read ({error}): {text_of_line[:60]}"
                self._tell(block.number, last + 1, message)
                continue
            position = line.position
            if line.block != block.number:
                message = f"a receipt of block {line.block} is among its own"
                self._tell(block.number, last + 1, message)
            elif position <= last:
                self._tell(block.number, position, "its receipts are not in their order")
            elif position != last + 1 and position % _RUNS_PER_LEAF:
                self._tell(block.number, position, f"nothing stands at position {position - 1}")
            last = position
            found.append(line)
        return found

    def _leaves(self, lines: list[Line]) -> list[tuple[int, bytes]]:
        """(number, hash) of each leaf."""
        found: list[tuple[int, bytes]] = []
        for number, group in groupby(lines, key=lambda line: line.position // _RUNS_PER_LEAF):
            of_leaf = list(group)
            leaf = _sha256(b"".join([b"\0", *[one.record for one in of_leaf]])).digest()
            check = leaf.hex()[:16]
            if [one for one in of_leaf if one.check != check]:
                self._tell_leaf(of_leaf)
            found.append((number, leaf))
        return found

    def _tell_leaf(self, lines: list[Line]) -> None:
        first = lines[0]
        message = "it is not what was sealed"
        if len(lines) > 1:
            message = f"it, or one of the {len(lines)} that are sealed together, {message[3:]}"
        self._tell(first.block, first.position, message, first.receipt)

    def _tell(self, block: int, position: int, message: str, receipt: int | None = None) -> None:
        if len(self._chunk.findings) < 10 * _FINDINGS_MAX:
            self._chunk.findings.append(Finding(block, position, receipt, message))

    def _line(self, line: str) -> Line:
        """Check a line for itself."""
        if line[:2] != "[[":
            raise ValueError("it is not [[...],...]")
        fields, end = _scan(line, 1)
        if line[end] != ",":
            raise ValueError("its details are missing")
        details, last = _scan(line, end + 1)
        if line[last:] != "]":
            raise ValueError("it goes on after its details")
        raw = line[end + 1 : last].encode()
        if fields[0] == "R":
            return self._run(fields, details, _sha256(raw).digest())
        if fields[0] == "C":
            return self._correction(fields, details, _sha256(raw).digest())
        if fields[0] == "S" and self._account.is_of_one_run:
            return self._sealed_with_it(fields)
        raise ValueError(f"there is no kind {fields[0]!r}")

    def _run(self, fields: list[Any], details: Any, digest: bytes) -> Line:
        (
            _, block, position, key, part, number, occurred_at_us, microtokens, micros, lot_id,
            out_before, slices, flags, engine_id, names, check,
        ) = fields  # fmt: skip
        slices_count = _slices_count(microtokens, slices)
        record = _RUN.pack(
            b"R", self._account.shard, self._account.id, bytes.fromhex(key), part, number,
            occurred_at_us, microtokens, micros, lot_id, out_before, slices_count, flags, engine_id,
            self._attribution_key(names), digest,
        )  # fmt: skip
        if slices_count > 1:
            record += b"".join([_SLICE.pack(*one) for one in slices])
        wrong = _wrong_of_run(self._account.id, fields, details)
        if wrong:
            self._tell(block, position, f"run {details[0]!r}: {wrong}", number or None)
        if number:
            self._chunk.receipts_count += 1
            self._count(block, position, number)
        if key in self._corrected_keys:
            version = 1 if not part else 0
            self._chunk.corrected.append(Corrected(block, position, key, version, microtokens))
        if self._account.is_of_one_run:
            self._chunk.keys.add(key)
        return Line(block, position, number or None, record, check)

    def _correction(self, fields: list[Any], details: Any, digest: bytes) -> Line:
        _, block, position, key, version, recorded_at_us, microtokens, micros, check = fields
        record = _CORRECTION.pack(
            b"C", self._account.shard, self._account.id, bytes.fromhex(key), version,
            recorded_at_us, microtokens, micros, digest,
        )  # fmt: skip
        wrong = _wrong_of_correction(microtokens, micros, details)
        if wrong:
            self._tell(block, position, f"version {version} of run {key}: {wrong}")
        self._chunk.corrected.append(Corrected(block, position, key, version, microtokens))
        return Line(block, position, None, record, check)

    def _sealed_with_it(self, fields: list[Any]) -> Line:
        """One whole record of a run of this account: what begins or ends within one could hide a
        receipt in what others say."""
        _, block, position, digits, check = fields
        record = bytes.fromhex(digits)
        letter, shard, account_id, *_, slices_count, _, _, _, _ = _RUN.unpack_from(record)
        size = _RUN.size + (_SLICE.size * slices_count if slices_count > 1 else 0)
        if (letter, shard, account_id) != (b"R", self._account.shard, self._account.id):
            raise ValueError("what is sealed with it is not of this account")
        if len(record) != size:
            raise ValueError("what is sealed with it is not one record")
        self._chunk.keys_beside.add(record[_KEY].hex())
        return Line(block, position, None, record, check)

    def _count(self, block: int, position: int, number: int) -> None:
        last = self._chunk.last_number
        if not last:
            self._chunk.first_number = number
        elif number != last + 1:
            message = f"receipt {number} follows receipt {last}"
            self._tell(block, position, message, last + 1)
        self._chunk.last_number = number

    def _attribution_key(self, names: list[str]) -> bytes:
        asked = tuple(names)
        found = self._attributions.get(asked)
        if found is None:
            text = json.dumps(names, ensure_ascii=False, separators=(",", ":"))
            found = _sha256(text.encode()).digest()[:16]
            if len(self._attributions) < 100_000:
                self._attributions[asked] = found
        return found

    def _check_leaves(
        self, block: Block, lines_count: int, leaves: list[tuple[int, bytes]]
    ) -> None:
        message = f"{lines_count} of its {block.lines_count} receipts are there"
        if lines_count == block.lines_count:
            try:
                if root_from_proof(sorted(leaves), block.leaves_count, block.proof) == block.root:
                    return
                message = "its receipts do not lead to its root"
            except ValueError as error:
                message = f"its receipts do not lead to its root: {error}"
        self._tell(block.number, _NOWHERE, message)


def _check_stretch(
    account: Account, keys: frozenset[str], receipts: bytes | Path, begin: int, end: int,
    blocks: Sequence[Block],
) -> Chunk:  # fmt: skip
    if isinstance(receipts, bytes):
        packed = receipts[begin:end]
    else:
        with receipts.open("rb") as file:
            file.seek(begin)
            packed = file.read(end - begin)
    return LinesChecker(account, keys).check(packed, blocks)


def _slices_count(microtokens: int, slices: list[Any] | None) -> int:
    if slices is not None:
        return len(slices)
    return 1 if microtokens else 0


def _wrong_of_run(account_id: int, fields: list[Any], details: list[Any]) -> str:
    """What a run's receipt says that does not fit together; nothing if it does."""
    key, part, number, microtokens, slices, flags = (
        fields[3], fields[4], fields[5], fields[7], fields[11], fields[12],
    )  # fmt: skip
    run_id, of_account, inferences, unusual = details
    if of_account != account_id or not _is_key(key, run_id):
        return "its details are another run's"
    if flags or part or unusual is not None:
        wrong = _wrong_of_unusual(part, flags, unusual or {})
        if wrong:
            return wrong
    # The parts carry the cost of a run that came in parts.
    is_free = flags & (_NOT_CHARGED | _IN_PARTS)
    if (0 if is_free else sum([one[4] for one in inferences])) != microtokens:
        return "its inferences do not add up to its cost"
    if slices is not None and sum([one[2] for one in slices]) != microtokens:
        return "its slices do not add up to its cost"
    if slices is not None and slices[0][:2] != fields[9:11]:
        return "it does not begin with its first slice"
    if (part == 0) != (number > 0):
        return "only the run itself has a number"
    return ""


def _wrong_of_unusual(part: int, flags: int, unusual: dict[str, str]) -> str:
    said = (
        _FAILED * (unusual.get("outcome", "accepted") == "failed")
        | _NOT_CHARGED * (unusual.get("fault", "") == "vendor")
        | _RETAKE * bool(unusual.get("retake_of", ""))
    )
    if said != flags & (_FAILED | _NOT_CHARGED | _RETAKE):
        return "its details tell of another outcome"
    if not flags & _IN_PARTS and _part_key(unusual.get("part", "")) != part:
        return "its details are another part's"
    return ""


def _wrong_of_correction(microtokens: int, micros: int, details: dict[str, Any]) -> str:
    signs = {"charge": 1, "return": -1}
    moved = sum(signs.get(kind, 0) * count for kind, _, _, count in details.get("entries", []))
    changes = details.get("changes", [])
    if moved != microtokens or sum(one[1] for one in changes) != microtokens:
        return "its entries do not add up to its tokens"
    if sum(one[2] for one in changes) != micros:
        return "its changes do not add up to its money"
    return ""


def _is_key(key: str, run_id: str) -> bool:
    """A UUID in its canonical spelling is its own key; any other id is hashed (RFC 9562)."""
    if run_id[8:24:5] == "----" and run_id.replace("-", "") == key:
        return True
    if len(run_id) == 36:
        try:
            if str(uuid.UUID(run_id)) == run_id:
                return False
        except ValueError:
            pass
    digest = bytearray(_sha256(run_id.encode()).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    return digest.hex() == key


def _part_key(part: str) -> int:
    if not part:
        return 0
    return int.from_bytes(_sha256(part.encode()).digest()[:8], "big", signed=True) | 1


def root_from_proof(leaves: Sequence[tuple[int, bytes]], leaves_count: int, proof: bytes) -> bytes:
    """The root over some leaves (position, hash), in order, and the hashes beside their ways up.

    RFC 9162, section 2.1: a node is SHA-256(1 || left || right), and one that is alone at its
    level moves up as it is. `proof` has, level by level from below and from the left, the hash of
    each node that is needed and does not follow from the leaves.
    """
    if not leaves or not 0 <= leaves[0][0] <= leaves[-1][0] < leaves_count:
        raise ValueError(f"they are not among {leaves_count} leaves")
    taken = 0
    level, width = list(leaves), leaves_count
    while width > 1:
        above: list[tuple[int, bytes]] = []
        at, count = 0, len(level)
        while at < count:
            position, node = level[at]
            at += 1
            if position & 1:
                left, right = proof[taken : taken + 32], node
                taken += 32
            elif at < count and level[at][0] == position + 1:
                left, right = node, level[at][1]
                at += 1
            elif position + 1 < width:
                left, right = node, proof[taken : taken + 32]
                taken += 32
            else:
                above.append((position >> 1, node))
                continue
            above.append((position >> 1, _sha256(b"\1" + left + right).digest()))
        level, width = above, (width + 1) >> 1
    if taken != len(proof):
        raise ValueError("the proof is too long or too short")
    return level[0][1]


@dataclass
class Export:
    """What is to be checked: a folder, or the proof of one run."""

    account: Account
    heads: list[dict[str, Any]]
    headers: Iterable[bytes]
    receipts: bytes | Path
    corrected_keys: frozenset[str]
    size: int


def of_folder(folder: Path) -> Export:
    receipts = folder / "receipts.jsonl"
    return Export(
        account=_account(_read(folder / "account.json"), is_of_one_run=False),
        heads=read_heads(folder / "heads.json"),
        headers=_lines(folder / "blocks.jsonl"),
        receipts=receipts,
        corrected_keys=_corrected_keys(_mapped(receipts)),
        size=receipts.stat().st_size,
    )


def of_proof(path: Path) -> Export:
    proof = _read(path)
    receipts = b"".join(line.encode() + b"\n" for line in proof["receipts"])
    return Export(
        account=_account(proof["account"], is_of_one_run=True),
        heads=proof["heads"],
        headers=[json.dumps(one).encode() for one in proof["blocks"]],
        receipts=receipts,
        corrected_keys=_corrected_keys(receipts),
        size=len(receipts),
    )


def read_heads(path: Path) -> list[dict[str, Any]]:
    return [
        {name: one[name] for name in ("shard", "number", "hash")} for one in _read(path)["heads"]
    ]


def _read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from file


def _account(said: dict[str, Any], *, is_of_one_run: bool) -> Account:
    if said["format"] != FORMAT:
        raise ValueError(f"format {said['format']} is not {FORMAT}, which is known here")
    names = ("account", "account_id", "shard", "whole", "lines")
    is_of_one_run = is_of_one_run and not said["whole"]
    return Account._make([*[said[name] for name in names], is_of_one_run])


def _mapped(path: Path) -> bytes | mmap.mmap:
    if not path.stat().st_size:
        return b""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _corrected_keys(receipts: bytes | mmap.mmap) -> frozenset[str]:
    """The keys of the runs that have corrections: looked for first, as those come last."""
    begin = b'\n[["C",'
    keys: set[bytes] = set()
    places = [-1] if receipts[: len(begin) - 1] == begin[1:] else []
    at = receipts.find(begin)
    while at >= 0:
        places.append(at)
        at = receipts.find(begin, at + 1)
    for place in places:
        keys.update(receipts[place + 1 : place + 200].split(b",", 4)[3:4])
    return frozenset(key.strip(b'"').decode("ascii", "replace") for key in keys)


@dataclass
class Report:
    """What was found in all."""

    account: str
    receipts: int = 0
    blocks: int = 0
    heads: int = 0
    findings: list[Finding] = field(default_factory=list)

    def tell(self, block: int, message: str, receipt: int | None = None) -> None:
        self.findings.append(Finding(block, -1, receipt, message))


def verify(
    export: Export, kept: list[dict[str, Any]], processes: int, progress: Callable[[int], None]
) -> Report:
    """Check everything; what does not hold is told in the order of the blocks."""
    account, report = export.account, Report(export.account.code)
    heads: dict[int, set[str]] = {}
    for head in [*export.heads, *kept]:
        if head["shard"] == account.shard:
            heads.setdefault(head["number"], set()).add(head["hash"])
    corrected: list[Corrected] = []
    last_number = lines_count = bytes_count = 0
    for first_block, chunk in _chunks(export, read_blocks(export, heads, report), processes):
        report.findings = sorted(report.findings + chunk.findings, key=_order)[:_FINDINGS_MAX]
        is_begun = bool(last_number) or account.is_whole
        if chunk.first_number and is_begun and chunk.first_number != last_number + 1:
            message = f"receipt {chunk.first_number} follows receipt {last_number}"
            report.tell(first_block, message, last_number + 1)
        last_number = chunk.last_number or last_number
        report.receipts += chunk.receipts_count
        lines_count += chunk.lines_count
        bytes_count += chunk.bytes_count
        corrected += chunk.corrected
        if account.is_of_one_run and (chunk.keys & chunk.keys_beside or len(chunk.keys) != 1):
            report.tell(_NOWHERE, "it is not the proof of one run with all that is told of it")
        progress(bytes_count)
    _check_versions(corrected, account, report)
    if lines_count != account.lines_count or bytes_count != export.size:
        message = f"{lines_count} lines belong to blocks, {account.lines_count} were written"
        report.tell(_NOWHERE, message)
    report.findings = sorted(report.findings, key=_order)[:_FINDINGS_MAX]
    return report


def read_blocks(export: Export, heads: dict[int, set[str]], report: Report) -> Iterator[Block]:
    """Blocks in their order, each checked against the one before and the published heads."""
    is_whole = export.account.is_whole
    number, before = 0, _NO_BLOCK if is_whole else b""
    for line in export.headers:
        try:
            block, said = _block(export.account.shard, line)
        except _UNREADABLE as error:
            report.tell(number + 1, f"its header can't be read ({error}): {line[:60]!r}")
            continue
        if (number or is_whole) and block.number != number + 1:
            report.tell(number + 1, f"block {block.number} stands in its place")
        elif before and block.previous != before:
            report.tell(block.number, "it does not name the block before it")
        if block.hash.hex() != said:
            report.tell(block.number, "its hash is another")
        _compare_heads(block, heads.get(block.number, set()), report)
        number, before = block.number, block.hash
        yield block
    if ahead := [one for one in heads if one > number]:
        message = f"the chain ends before it, yet block {max(ahead)} was published"
        report.tell(number + 1, f"{message}: blocks are missing, or came after the export")


def _compare_heads(block: Block, heads: set[str], report: Report) -> None:
    report.blocks += 1
    report.heads += len(heads)
    for head in heads - {block.hash.hex()}:
        report.tell(block.number, f"it was published with another hash: {head}")


def _block(shard: int, line: bytes) -> tuple[Block, str]:
    number, recorded_at_us, leaves_count, previous, root, said, *of_account = json.loads(line)
    lines_count, bytes_count, proof = of_account or (0, 0, "")
    if bytes_count < 0:
        raise ValueError("its receipts have less than no bytes")
    hashes = bytes.fromhex(previous), bytes.fromhex(root)
    header = _HEADER.pack(shard, number, recorded_at_us, leaves_count, *hashes)
    block = Block(
        number=number,
        leaves_count=leaves_count,
        previous=hashes[0],
        root=hashes[1],
        hash=_sha256(b"runledger block" + header).digest(),
        lines_count=lines_count,
        bytes_count=bytes_count,
        proof=bytes.fromhex(proof),
    )
    return block, said


def _chunks(export: Export, blocks: Iterable[Block], processes: int) -> Iterator[tuple[int, Chunk]]:
    """Check stretches of lines, several at a time; what was found, in their order."""
    stretches = (
        (export.account, export.corrected_keys, export.receipts, begin, end, group)
        for begin, end, group in _stretches(blocks)
    )
    if processes == 1:
        for one in stretches:
            yield one[-1][0].number, _check_stretch(*one)
        return
    waiting: deque[tuple[int, Future[Chunk]]] = deque()
    with ProcessPoolExecutor(processes) as pool:
        for one in stretches:
            waiting.append((one[-1][0].number, pool.submit(_check_stretch, *one)))
            if len(waiting) > 2 * processes:
                first_block, done = waiting.popleft()
                yield first_block, done.result()
        for first_block, done in waiting:
            yield first_block, done.result()


def _stretches(blocks: Iterable[Block]) -> Iterator[tuple[int, int, list[Block]]]:
    """Where lines of whole blocks begin and end, and those blocks."""
    begin = end = 0
    group: list[Block] = []
    for block in blocks:
        if block.lines_count:
            group.append(block)
            end += block.bytes_count
        if end - begin >= _CHUNK_BYTES:
            yield begin, end, group
            begin, group = end, []
    if group:
        yield begin, end, group


def _check_versions(corrected: Iterable[Corrected], account: Account, report: Report) -> None:
    """Versions of a receipt follow one another, and never give back more than the run cost."""
    versions: dict[str, int] = {}
    costs: dict[str, int] = {}
    for block, _, key, version, microtokens in corrected:
        costs[key] = costs.get(key, 0) + microtokens
        before = versions.get(key, 0)
        # In a part of the receipts, a run and its first versions may have come before.
        if version and version != before + 1 and (before or account.is_whole):
            report.tell(block, f"version {version} of run {key} follows version {before}")
        versions[key] = version or before
        if costs[key] < 0 and account.is_whole:
            report.tell(block, f"version {version} of run {key} gives back more than it cost")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description="Check an export of receipts against published heads.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("path", type=Path, help="the folder of an export, or the proof of one run")
    parser.add_argument(
        "--heads",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="published heads that you kept; may be given more than once",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count(), help="at most; default: a processor each"
    )
    options = parser.parse_args(arguments)
    try:
        export = (of_folder if options.path.is_dir() else of_proof)(options.path)
        kept = [head for path in options.heads for head in read_heads(path)]
    except (OSError, *_UNREADABLE) as error:
        parser.error(f"this can't be read as an export: {error}")
    processes = max(options.processes or 1, 1) if export.size > 2 * _CHUNK_BYTES else 1
    report = verify(export, kept, processes, _progress(export.size))
    sys.stdout.write(_as_json(report) if options.json else _as_text(report))
    return 1 if report.findings else 0


def _progress(size: int) -> Callable[[int], None]:
    def show(done: int) -> None:
        if sys.stderr.isatty():
            share = done / size if size else 1
            bar = "#" * round(30 * share)
            sys.stderr.write(f"\r[{bar:30}] {share:4.0%}" + ("\n" if done >= size else ""))
            sys.stderr.flush()

    return show


def _as_json(report: Report) -> str:
    findings = [
        {
            "block": one.block if one.block < _NOWHERE else None,
            "receipt": one.receipt,
            "message": one.message,
        }
        for one in report.findings
    ]
    told = {"sound": not findings, "account": report.account, "receipts": report.receipts}
    told |= {"blocks": report.blocks, "heads": report.heads, "findings": findings}
    return json.dumps(told) + "\n"


def _as_text(report: Report) -> str:
    if report.findings:
        places = [f"{_place(one)}: {one.message}\n" for one in report.findings]
        return "".join(["NOT SOUND. From the first place on:\n", *places])
    heads = f"{report.heads:,} published heads are among them"
    if not report.heads:
        heads = "NO published head was there to compare: see --help"
    return (
        f"Sound: {report.receipts:,} receipts of {report.account}, in a chain of"
        f" {report.blocks:,} blocks; {heads}.\n"
    )


def _place(one: Finding) -> str:
    if one.block == _NOWHERE:
        return "all in all"
    return f"block {one.block}" + (f", receipt {one.receipt}" if one.receipt else "")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
