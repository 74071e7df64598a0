"""Runs out of CSV files: one line is one run of one inference.

A mapping says which column fills which field of the run, which fields have the same value on
every line, and which columns hold quantities. A run's id is a column, or else the digest of the
file's first two lines and the line's number: so a file imported again, on from where it was
interrupted, or after lines were added at its end, is the same runs, and none is debited twice. A
line that was changed meanwhile is a conflict, which is told.

Imported runs go the way of all runs, through ledger.intake. A whole file is checked before its
first run is taken.
"""

import csv
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec

from ledger import accounts, debiting, intake
from ledger.errors import Fault, InvalidRuns
from ledger.intake import FAULTS_MAX, NewInference, NewRun
from ledger.models import Conflict, Submission
from ledger.units import run_key

RUN_FIELDS: Final = (
    "id",
    "account",
    "workflow",
    "occurred_at",
    "engine",
    "project",
    "job",
    "cost_centre",
    "department",
    "actor",
)
REQUIRED_FIELDS: Final = ("account", "workflow", "occurred_at", "engine")
LINES_PER_BATCH: Final = 1_000
FIELD_CHARACTERS_MAX: Final = 100_000
QUANTITY_CHARACTERS_MAX: Final = 30


@dataclass(frozen=True, kw_only=True)
class ColumnMapping:
    """How a line becomes a run. `columns` and `values` are keyed by RUN_FIELDS."""

    columns: Mapping[str, str]
    values: Mapping[str, str]
    quantities: Mapping[str, str]  # meter -> column
    time_zone: tzinfo  # of instants that name none


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of the file, by its number in it, as a run."""

    number: int
    run: NewRun


@dataclass(kw_only=True)
class Imported:
    """What an import did. `already_count` are lines that an earlier import had brought."""

    lines_count: int = 0
    already_count: int = 0
    unpriced_count: int = 0
    conflicts_count: int = 0
    microtokens: int = 0


class InvalidFile(Exception):
    """Lines that can't be imported; each fault's field is `line 7, column X`."""

    def __init__(self, *, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(f"{one.field}: {one.message}" for one in faults))
        self.faults = list(faults)


Progress = Callable[[int], None]


def check_file(
    *,
    path: Path,
    mapping: ColumnMapping,
    book_id: int,
    at: datetime,
    progress: Progress = lambda lines: None,
) -> int:
    """Check every line as the import would; the number of lines. Writes nothing.

    Raises InvalidFile with at most FAULTS_MAX faults.
    """
    lines_count = 0
    for lines in _batches(read(path=path, mapping=mapping)):
        _check(lines, book_id=book_id, at=at)
        lines_count += len(lines)
        progress(len(lines))
    if not lines_count:
        raise InvalidFile(faults=[Fault(field="file", rule="empty", message="has no lines")])
    return lines_count


def import_file(
    *,
    path: Path,
    mapping: ColumnMapping,
    book_id: int,
    at: datetime,
    progress: Progress = lambda lines: None,
) -> Imported:
    """Accept and debit every line of a file that has been checked; may be called again.

    Batches that are debited already, every line of them as it stands, are passed over.
    """
    imported = Imported()
    for lines in _batches(read(path=path, mapping=mapping)):
        imported.lines_count += len(lines)
        if _are_debited(lines, book_id=book_id):
            imported.already_count += len(lines)
        else:
            _take(lines, imported, book_id=book_id, at=at)
        progress(len(lines))
    return imported


def _take(lines: Sequence[Line], imported: Imported, *, book_id: int, at: datetime) -> None:
    accepted = intake.accept(book_id=book_id, runs=[line.run for line in lines], at=at)
    for shard in accepted.shards:
        debiting.drain_shard(shard=shard, at=at)
    imported.unpriced_count += sum(run.microtokens is None for run in accepted.runs)
    imported.microtokens += sum(run.microtokens or 0 for run in accepted.runs)
    imported.conflicts_count += _conflicts_count(accepted)


def read(*, path: Path, mapping: ColumnMapping) -> Iterator[Line]:
    """The lines of a file as runs. Raises InvalidFile at the first that is none."""
    csv.field_size_limit(FIELD_CHARACTERS_MAX)
    digest = _digest_of_beginning(path)
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file, strict=True)
        try:
            _check_columns(rows.fieldnames, mapping)
            for row in rows:
                yield Line(
                    number=rows.line_num,
                    run=_run(row, rows.line_num, mapping, f"{digest}:{rows.line_num}"),
                )
        except (csv.Error, UnicodeDecodeError) as error:
            place = f"line {rows.line_num + 1}"
            raise InvalidFile(
                faults=[Fault(field=place, rule="csv", message=f"is not CSV in UTF-8: {error}")]
            ) from None


def _check_columns(names: Sequence[str] | None, mapping: ColumnMapping) -> None:
    present = set(names or ())
    wanted = [*mapping.columns.values(), *mapping.quantities.values()]
    faults = [
        Fault(
            field=f"column {column!r}",
            rule="missing_column",
            message=f"is not in the file, which has {', '.join(sorted(present)) or 'no columns'}",
        )
        for column in wanted
        if column not in present
    ]
    if faults:
        raise InvalidFile(faults=faults)


def _run(row: dict[str, str], number: int, mapping: ColumnMapping, derived_id: str) -> NewRun:
    found = dict(mapping.values)
    for name, column in mapping.columns.items():
        found[name] = (row[column] or "").strip()
    fields: dict[str, object] = {name: text for name, text in found.items() if name != "engine"}
    fields.setdefault("id", derived_id)
    fields["occurred_at"] = _instant(found["occurred_at"], number, mapping)
    fields["inferences"] = [
        NewInference(
            engine=found["engine"],
            quantities={
                meter: _quantity(row[column], number, column)
                for meter, column in mapping.quantities.items()
            },
        )
    ]
    try:
        return msgspec.convert(fields, NewRun)
    except msgspec.ValidationError as error:
        raise _invalid(number, "", "invalid", str(error)) from None


def _instant(text: str, number: int, mapping: ColumnMapping) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        column = mapping.columns.get("occurred_at", "")
        message = f"{text!r} is not a time such as 2026-10-01 09:30:00"
        raise _invalid(number, column, "datetime", message) from None
    return instant if instant.tzinfo else instant.replace(tzinfo=mapping.time_zone)


def _quantity(text: str | None, number: int, column: str) -> int:
    # More digits than any quantity has are not worth reading.
    if text is None or not text.strip().isdecimal() or len(text) > QUANTITY_CHARACTERS_MAX:
        message = f"{text!r} is not a whole number of 0 or more"
        raise _invalid(number, column, "whole_number", message)
    return int(text)


def _invalid(number: int, column: str, rule: str, message: str) -> InvalidFile:
    place = f"line {number}, column {column!r}" if column else f"line {number}"
    return InvalidFile(faults=[Fault(field=place, rule=rule, message=message)])


def _batches(lines: Iterator[Line]) -> Iterator[list[Line]]:
    while batch := list(islice(lines, LINES_PER_BATCH)):
        yield batch


def _check(lines: Sequence[Line], *, book_id: int, at: datetime) -> None:
    try:
        intake.check(book_id=book_id, runs=[line.run for line in lines], at=at)
    except InvalidRuns as error:
        raise InvalidFile(
            faults=[_at_line(fault, lines) for fault in error.faults[:FAULTS_MAX]]
        ) from None


def _at_line(fault: Fault, lines: Sequence[Line]) -> Fault:
    """`runs[3].account` said of a batch, as `line 7, account`."""
    position, _, rest = fault.field.removeprefix("runs[").partition("]")
    place = f"line {lines[int(position)].number}"
    name = rest.lstrip(".").removeprefix("inferences[0].")
    return Fault(
        field=f"{place}, {name}" if name else place, rule=fault.rule, message=fault.message
    )


def _are_debited(lines: Sequence[Line], *, book_id: int) -> bool:
    """Whether every one of these lines is debited, with this very body."""
    found = accounts.find_all(book_id=book_id, codes=list({line.run.account for line in lines}))
    names = [(found[line.run.account].id, run_key(line.run.id), 0) for line in lines]
    digests = debiting.debited_digests(names=names)
    return all(
        digests.get(name) == intake.body_digest(line.run)
        for name, line in zip(names, lines, strict=True)
    )


def _conflicts_count(accepted: intake.Accepted) -> int:
    submissions = Submission.objects.filter(
        shard__in=accepted.shards, batch_id=accepted.batch_id
    ).values_list("shard", "id")
    return sum(
        Conflict.objects.filter(shard=shard, submission_id=submission_id).count()
        for shard, submission_id in submissions
    )


def _digest_of_beginning(path: Path) -> str:
    """Tells files apart by their first two lines, the names and the first run."""
    with path.open("rb") as file:
        beginning = file.readline(FIELD_CHARACTERS_MAX) + file.readline(FIELD_CHARACTERS_MAX)
    return hashlib.sha256(beginning).hexdigest()[:16]
