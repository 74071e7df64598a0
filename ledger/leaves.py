"""What a receipt's leaf says, byte by byte: whoever holds a receipt can rebuild it.

A run's leaf is the letter R, then its columns in LEAF's order, big-endian, then, if it drew on
more than one lot, each slice: lot id, out before and microtokens, eight bytes each.
"""

import hashlib
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from ledger.drawdown import Slice
from ledger.packing import Rows

LEAF: Final = np.dtype(
    [
        ("leaf_prefix", "V1"),  # RFC 9162: 0 for a leaf
        ("letter", "V1"),
        ("shard", ">i2"),
        ("account_id", ">i8"),
        ("run_key", "V16"),
        ("part", ">i8"),
        ("sequence", ">i8"),
        ("occurred_at_us", ">i8"),
        ("microtokens", ">i8"),
        ("micros", ">i8"),
        ("lot_id", ">i8"),
        ("out_before_microtokens", ">i8"),
        ("slices_count", ">i2"),
        ("flags", ">i2"),
        ("engine_id", ">i4"),
        ("attribution_key", "V16"),
        ("details_digest", "V32"),
    ]
)
_COLUMNS: Final = [name for name in LEAF.fields or () if name not in ("leaf_prefix", "letter")]
_LEAF_BYTES: Final = struct.Struct(f"{LEAF.itemsize}s")
_SLICE: Final = struct.Struct(">qqq")


def pack(runs_count: int, columns: Mapping[str, Any]) -> Rows:
    """Leaves of runs, without the slices of those that crossed lots; `columns` by LEAF's names."""
    leaves = np.empty(runs_count, LEAF)
    leaves["leaf_prefix"] = b"\x00"
    leaves["letter"] = b"R"
    for name in _COLUMNS:
        leaves[name] = columns[name]
    return leaves


def hashes(leaves: Rows) -> list[bytes]:
    """The hash of each leaf of a run that one lot served, or none."""
    sha256 = hashlib.sha256
    return [sha256(leaf).digest() for (leaf,) in _LEAF_BYTES.iter_unpack(leaves.tobytes())]


def hash_of_crossing(leaf: np.void, slices: Sequence[Slice]) -> bytes:
    """The hash of the leaf of a run that drew on several lots."""
    tail = b"".join(
        _SLICE.pack(one.lot_id, one.out_before_microtokens, one.microtokens) for one in slices
    )
    return hashlib.sha256(leaf.tobytes() + tail).digest()
