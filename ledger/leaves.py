"""What the leaves of a block say, byte by byte: whoever holds receipts can rebuild them.

A leaf is up to RUNS_PER_LEAF runs of one account, in the block's order: the record of each, end to
end. So a busy account's runs need one hash for sixteen, and still no leaf tells anybody of another
account (docs/decisions/0014). A run's record is the letter R, then its columns in RECORD's order,
big-endian, then, if it drew on more than one lot, each slice: lot id, out before and microtokens,
eight bytes each.

A run's position in its block is its leaf's number times RUNS_PER_LEAF, and its place in the leaf.
"""

import hashlib
import struct
from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any, Final

import numpy as np

from ledger.drawdown import Slice
from ledger.merkle import LEAF_PREFIX, leaf_hash
from ledger.packing import Integers, Rows

RUNS_PER_LEAF: Final = 16

RECORD: Final = np.dtype(
    [
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
_COLUMNS: Final = [name for name in RECORD.fields or () if name != "letter"]
_SLICE: Final = struct.Struct(">qqq")


def positions(accounts_counts: Integers) -> Integers:
    """Of a block's runs, account after account: so many runs has each of them."""
    begins = np.repeat(np.cumsum(accounts_counts) - accounts_counts, accounts_counts)
    of_account = np.arange(len(begins)) - begins
    leaves = np.cumsum(of_account % RUNS_PER_LEAF == 0) - 1
    return leaves * RUNS_PER_LEAF + of_account % RUNS_PER_LEAF


def begins(numbers: Integers) -> Integers:
    """Where each leaf's runs begin, of runs in order of their leaves' numbers."""
    return np.flatnonzero(np.diff(numbers, prepend=-1))


def pack(runs_count: int, columns: Mapping[str, Any]) -> Rows:
    """Records of runs, without the slices of those that crossed lots; `columns` by their names."""
    records = np.empty(runs_count, RECORD)
    records["letter"] = b"R"
    for name in _COLUMNS:
        records[name] = columns[name]
    return records


def hashes(records: Rows, begins: Integers, crossing: Mapping[int, Sequence[Slice]]) -> list[bytes]:
    """The hash of each leaf; `crossing` has, by row, the slices of runs that drew on several."""
    sha256, packed, size = hashlib.sha256, records.tobytes(), RECORD.itemsize
    edges = [*(size * begins).tolist(), len(packed)]
    found = [sha256(LEAF_PREFIX + packed[begin:end]).digest() for begin, end in pairwise(edges)]
    rows = sorted(crossing)
    of_rows = (np.searchsorted(begins, rows, side="right") - 1).tolist()
    for leaf, of_leaf in groupby(zip(of_rows, rows, strict=True), key=itemgetter(0)):
        pieces, begin = [], edges[leaf]
        for _, row in of_leaf:
            end = size * (row + 1)
            pieces += [packed[begin:end], pack_slices(crossing[row])]
            begin = end
        found[leaf] = leaf_hash(b"".join([*pieces, packed[begin : edges[leaf + 1]]]))
    return found


def pack_slices(slices: Sequence[Slice]) -> bytes:
    """The end of the record of a run that drew on several lots."""
    return b"".join(
        _SLICE.pack(one.lot_id, one.out_before_microtokens, one.microtokens) for one in slices
    )
