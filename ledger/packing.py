"""Runs as bytes: packed for the debit, and in full for ever.

The debit reads and writes runs in bulk, as numpy arrays of fixed-size rows; no Python object is
made for a run on the way. What a receipt shows beyond that stands beside it as JSON, so that
whoever is given a run's details can read them, and hash them, without any code of ours: for n
runs n + 1 offsets of four bytes, then each run's RunDetails.
"""

import hashlib
import struct
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from ledger.instants import EPOCH, to_us

# What is unusual about a run (Run.flags).
FAILED: Final = 1  # its outcome
NOT_CHARGED: Final = 2  # the fault policy: it costs nothing, whatever its inferences would
RETAKE: Final = 4  # it does again what another run did
IN_PARTS: Final = 8  # the run itself, that came in parts: its parts carry the cost
LAST_PART: Final = 16

# One accepted run, or part of one, on its way to the debit.
RUN: Final = np.dtype(
    [
        ("account_id", "<i8"),
        ("run_key", "V16"),
        ("part", "<i8"),  # 0: the whole run
        ("occurred_at_us", "<i8"),
        ("microtokens", "<i8"),
        ("attribution_key", "V16"),
        ("body_digest", "<i8"),
        ("details_digest", "V32"),
        ("engine_id", "<i4"),  # 0: several
        ("flags", "<i4"),
    ]
)
_OFFSETS: Final = struct.Struct("<2I")
_RUN_STRUCT: Final = struct.Struct("<q16sqqq16s8s32sii")
assert _RUN_STRUCT.size == RUN.itemsize

Rows = npt.NDArray[np.void]
Integers = npt.NDArray[np.int64]


# They come by the thousand and have no cycles: the collector of those need not look (`gc`).
class InferenceDetails(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One inference of a receipt."""

    engine: str
    occurred_at_us: int
    quantities: dict[str, int]
    rate_card_version_id: int
    microtokens: int


class Unusual(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What most runs have nothing to say about."""

    outcome: str = "accepted"
    fault: str = ""
    retake_of: str = ""
    part: str = ""


class RunDetails(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the run's own row leaves out. Most runs' `unusual` is null."""

    run_id: str
    account_id: int
    inferences: list[InferenceDetails]
    unusual: Unusual | None = None

    @property
    def charged_microtokens(self) -> int:
        """What the run costs: by the fault policy nothing, if it failed by the vendor's fault."""
        if self.unusual is not None and self.unusual.fault == "vendor":
            return 0
        return sum(inference.microtokens for inference in self.inferences)


_details_decoder: Final = msgspec.json.Decoder(RunDetails)
_details_encoder: Final = msgspec.json.Encoder(order="deterministic")


def encode_details(runs: Iterable[object]) -> list[bytes]:
    """What is kept of each run: a RunDetails, or tuples that say the same in its order."""
    # A line for each: JSON has no line ends but those between them.
    return _details_encoder.encode_lines(runs).split(b"\n")[:-1]


def details_digest(details: bytes) -> bytes:
    """32 bytes that the run's receipt is sealed with."""
    return hashlib.sha256(details).digest()


# One RUN row, of its columns in their order; the body's digest as bytes, little-endian.
pack_run: Final = _RUN_STRUCT.pack


# Numpy moves rows column by column; these move them whole, ten to twenty times as fast.


def pick_rows(rows: Rows, at: npt.NDArray[Any]) -> Rows:
    """The rows at these places, in this order."""
    return rows.take(at)


def put_rows(rows: Rows, at: npt.NDArray[Any], new: Rows) -> None:
    """Put new rows in the places of others."""
    whole = f"V{rows.itemsize}"
    rows.view(whole)[at] = new.view(whole)


def insert_rows(rows: Rows, at: npt.NDArray[Any], new: Rows) -> Rows:
    """The rows, with each new one before the row that had its place."""
    whole = f"V{rows.itemsize}"
    return np.insert(rows.view(whole), at, new.view(whole)).view(rows.dtype)


def unpack_runs(packed: bytes) -> Rows:
    return np.frombuffer(packed, RUN)


def pack_details(details: Sequence[bytes]) -> bytes:
    offsets = accumulate(map(len, details), initial=0)
    return struct.pack(f"<{len(details) + 1}I", *offsets) + b"".join(details)


def details_text(packed: bytes, runs_count: int, position: int) -> bytes:
    """The details at a position of a submission of `runs_count` runs, as they were hashed."""
    begin, end = _OFFSETS.unpack_from(packed, 4 * position)
    texts = 4 * (runs_count + 1)
    return packed[texts + begin : texts + end]


def unpack_details(packed: bytes, runs_count: int, positions: Iterable[int]) -> list[RunDetails]:
    """The details at these positions of a submission of `runs_count` runs."""
    offsets = np.frombuffer(packed, "<u4", runs_count + 1)
    begin = offsets.nbytes
    return [
        _details_decoder.decode(packed[begin + int(offsets[at]) : begin + int(offsets[at + 1])])
        for at in positions
    ]


# PostgreSQL's binary COPY: https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS
_COPY_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_TRAILER: Final = struct.pack(">h", -1)
# PostgreSQL counts instants from the year 2000.
POSTGRESQL_EPOCH_US: Final = to_us(EPOCH.replace(year=2000))


# PostgreSQL's binary arrays: dimensions, whether there are nulls, type; then length and lower bound
# of the one dimension; then each element after its size.
_ARRAY_HEADER: Final = struct.Struct(">iiIii")
_ELEMENT: Final = np.dtype([("size", ">i4"), ("value", ">i8")])
_UUID_ELEMENT: Final = np.dtype([("size", ">i4"), ("value", "V16")])


def unpack_array(packed: bytes) -> Integers:
    """An array of bigint or timestamptz without nulls, in PostgreSQL's binary form."""
    elements = np.frombuffer(packed[_ARRAY_HEADER.size :], _ELEMENT)
    return elements["value"].astype(np.int64)


class PackedArray:
    """A numpy array as a parameter of a prepared statement, in PostgreSQL's binary form."""

    def __init__(self, values: npt.NDArray[Any], *, element_oid: int, array_oid: int) -> None:
        elements = np.empty(len(values), _UUID_ELEMENT if values.dtype.kind == "V" else _ELEMENT)
        elements["size"] = elements["value"].itemsize
        elements["value"] = values
        header = _ARRAY_HEADER.pack(1, 0, element_oid, len(values), 1)
        self.packed: Final = header + elements.tobytes()
        self.array_oid: Final = array_oid


def bigints(values: npt.NDArray[Any]) -> PackedArray:
    """A bigint[]."""
    return PackedArray(values, element_oid=20, array_oid=1016)


def instants(values_us: npt.NDArray[Any]) -> PackedArray:
    """A timestamptz[], from microseconds since 1970."""
    return PackedArray(values_us - POSTGRESQL_EPOCH_US, element_oid=1184, array_oid=1185)


def uuids(values: npt.NDArray[Any]) -> PackedArray:
    """A uuid[], from rows of sixteen bytes."""
    return PackedArray(values, element_oid=2950, array_oid=2951)


class CopyFormat:
    """Packs columns of fixed size into COPY's binary form, many rows at once."""

    def __init__(self, table: str, columns: Mapping[str, str]) -> None:
        """`columns` gives each column's numpy type, in big-endian order (`>i8`, `V16`)."""
        self.statement: Final = f"COPY {table} ({', '.join(columns)}) FROM STDIN (FORMAT binary)"
        self._columns: Final = tuple(columns)
        sizes = {name: np.dtype(kind).itemsize for name, kind in columns.items()}
        fields: list[tuple[str, str]] = [("columns_count", ">i2")]
        for name, kind in columns.items():
            fields += [(f"{name}_size", ">i4"), (name, kind)]
        self._template = np.zeros(1, np.dtype(fields))
        self._template["columns_count"] = len(sizes)
        for name, size in sizes.items():
            self._template[f"{name}_size"] = size

    def pack(self, rows_count: int, values: Mapping[str, Any], *, is_first: bool) -> bytes:
        """Rows with an array, or one value for all of them, for each column.

        The first rows of a COPY bring its header; COPY_TRAILER comes after the last.
        """
        rows = np.repeat(self._template, rows_count)
        for name in self._columns:
            rows[name] = values[name]
        return (_COPY_HEADER if is_first else b"") + rows.tobytes()
