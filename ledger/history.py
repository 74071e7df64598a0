"""What stands of a run now: what it was debited, less what corrections gave back.

Lay what a run drew on lots on a line, slice after slice as they were recorded, what corrections
charged behind it. What is given back is taken from the front of that line:

    drawn     |--- lot 1: 5 ---|--- lot 2: 5 ---|
    void 7    |- - - - - - - - - - - -|         3 left, all of them of lot 2
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ledger import amends, sql
from ledger.amends import Amends
from ledger.packing import FAILED, IN_PARTS, NOT_CHARGED, RETAKE

RunName = tuple[int, uuid.UUID]  # the account's id and the run's key


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """A row of rows_of_runs.sql: the run itself (part 0), or a part of it."""

    account_id: int
    run_key: uuid.UUID
    part: int
    occurred_at: datetime
    microtokens: int
    micros: int
    lot_id: int
    out_before_microtokens: int
    slices_count: int
    attribution_key: uuid.UUID
    engine_id: int
    flags: int
    submission_id: int
    submission_position: int


@dataclass(frozen=True, kw_only=True)
class CorrectionRow:
    """A row of corrections_of_runs.sql."""

    account_id: int
    run_key: uuid.UUID
    version: int
    kind: str
    recorded_at: datetime
    microtokens: int
    micros: int
    details: bytes

    @property
    def amends(self) -> Amends:
        return amends.decode(bytes(self.details))


@dataclass(kw_only=True, slots=True)
class Piece:
    """What is left of what one part of a run drew on one lot."""

    part: int
    lot_id: int
    microtokens: int


@dataclass(kw_only=True, slots=True)
class Net:
    """What one part of a run costs by now."""

    microtokens: int
    micros: int


@dataclass(kw_only=True)
class History:
    """A run with all its parts and corrections. `amend` moves it on."""

    rows: list[RunRow]
    pieces: list[Piece] = field(default_factory=list)
    net: dict[int, Net] = field(default_factory=dict)  # by part
    version: int = 1
    outcome: str = "accepted"
    fault: str = ""
    retaken_by: str = ""
    rated: dict[int, list[amends.Rated]] = field(default_factory=dict)  # by part, if priced anew
    # Parts that came after it had failed or was done again: usage does not know that of them yet.
    uncounted: set[int] = field(default_factory=set)

    @property
    def own(self) -> RunRow:
        """The run's own row."""
        return self.rows[0]

    @property
    def name(self) -> RunName:
        return self.own.account_id, self.own.run_key

    @property
    def is_in_parts(self) -> bool:
        return bool(self.own.flags & IN_PARTS)

    @property
    def left_microtokens(self) -> int:
        """What the run costs by now, and so what may be given back at most."""
        return sum(piece.microtokens for piece in self.pieces)

    @property
    def has_failed(self) -> bool:
        return self.outcome == "failed"

    @property
    def was_waived(self) -> bool:
        """Failed by the vendor's fault: it costs nothing, nor does any part to come."""
        return self.has_failed and self.fault == "vendor"

    @property
    def counts_as_accepted_first(self) -> bool:
        return not (self.has_failed or self.retaken_by or self.own.flags & RETAKE)

    def is_rework(self, row: RunRow) -> bool:
        """Whether what this part cost was spent on a run that failed or was done again."""
        is_of_run = (self.has_failed or self.retaken_by) and row.part not in self.uncounted
        return bool(is_of_run or row.flags & FAILED)

    def add_piece(self, *, lot_id: int, microtokens: int) -> None:
        """What a correction charged lies behind all else."""
        self.pieces.append(Piece(part=0, lot_id=lot_id, microtokens=microtokens))

    def drop_empty_pieces(self) -> None:
        self.pieces = [piece for piece in self.pieces if piece.microtokens]

    def amend(self, correction: Amends) -> None:
        """Move on to the next version."""
        self.version += 1
        for part, microtokens, micros in correction.changes:
            self.net[part].microtokens += microtokens
            self.net[part].micros += micros
        self.outcome = correction.outcome or self.outcome
        self.fault = correction.fault or self.fault
        self.retaken_by = correction.retaken_by or self.retaken_by
        self.rated |= dict(correction.rated)
        self.uncounted.discard(correction.part)


def histories(*, shard: int, names: Sequence[RunName]) -> dict[RunName, History]:
    """Debited runs of one shard as they stand now; names of no such run are left out."""
    keys = {
        "account_ids": [account_id for account_id, _ in names],
        "run_keys": [key for _, key in names],
    }
    found: dict[RunName, History] = {}
    for row in sql.query(RunRow, "rows_of_runs", shard=shard, **keys):
        name = (row.account_id, row.run_key)
        if name in found:
            found[name].rows.append(row)
        else:
            found[name] = _begun(row)
        found[name].net[row.part] = Net(microtokens=row.microtokens, micros=row.micros)
    entries = _entries(shard, keys)
    for name, history in found.items():
        history.pieces = _pieces(history.rows, entries.get(name, []))
    for correction in sql.query(CorrectionRow, "corrections_of_runs", **keys):
        found[correction.account_id, correction.run_key].amend(correction.amends)
    return found


def _begun(own: RunRow) -> History:
    if not own.flags & FAILED:
        return History(rows=[own])
    fault = "vendor" if own.flags & NOT_CHARGED else "customer"
    return History(rows=[own], outcome="failed", fault=fault)


# (part, kind, lot id, microtokens) of one entry.
_Entry = tuple[int, str, int, int]


def _entries(shard: int, keys: Mapping[str, object]) -> dict[RunName, list[_Entry]]:
    entries: dict[RunName, list[_Entry]] = {}
    for account_id, run_key, *entry in sql.rows("entries_of_runs", shard=shard, **keys):
        part, kind, lot_id, microtokens = entry
        entries.setdefault((account_id, run_key), []).append((part, kind, lot_id, microtokens))
    return entries


def _pieces(rows: Sequence[RunRow], entries: Sequence[_Entry]) -> list[Piece]:
    """The line of what the run drew, without what was given back since."""
    pieces: list[Piece] = []
    for row in rows:
        if row.slices_count == 1:
            pieces.append(Piece(part=row.part, lot_id=row.lot_id, microtokens=row.microtokens))
        else:
            pieces += [
                Piece(part=part, lot_id=lot_id, microtokens=microtokens)
                for part, kind, lot_id, microtokens in entries
                if part == row.part and kind == "debit"
            ]
    pieces += [
        Piece(part=part, lot_id=lot_id, microtokens=microtokens)
        for part, kind, lot_id, microtokens in entries
        if kind == "charge"
    ]
    for part, kind, lot_id, microtokens in entries:
        if kind == "return":
            _take_off(pieces, part, lot_id, microtokens)
    return [piece for piece in pieces if piece.microtokens]


def _take_off(pieces: Sequence[Piece], part: int, lot_id: int, microtokens: int) -> None:
    for piece in pieces:
        if (piece.part, piece.lot_id) == (part, lot_id):
            taken = min(piece.microtokens, microtokens)
            piece.microtokens -= taken
            microtokens -= taken
    assert microtokens == 0, "no more is given back than was drawn"
