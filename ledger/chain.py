"""The chain of a shard's blocks: each names the root of its receipts and the block before it.

    block 1 ◀── block 2 ◀── block 3 … ◀── head
      root        root        root
       |           |           |
    receipts    receipts    receipts

Who keeps a head keeps, in 32 bytes, everything up to it: nothing before it can be changed, taken
out, moved or left off without another head coming out. A block's hash is

    SHA-256("runledger block" || shard || number || recorded_at || leaves_count || previous hash
            || root)

with the shard in two bytes, the other numbers in eight, big-endian, and the instant in whole
microseconds since 1970. What a leaf says is in ledger.leaves.
"""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from ledger import merkle, sql
from ledger.instants import to_us
from ledger.units import ALWAYS

NO_BLOCK: Final = bytes(merkle.HASH_BYTES)
_HEADER: Final = struct.Struct(">hqqq32s32s")


@dataclass(frozen=True, kw_only=True)
class Head:
    """The last block of a shard."""

    number: int
    hash: bytes
    recorded_at: datetime

    @staticmethod
    def of(rows: Sequence[tuple[int, bytes, datetime]]) -> "Head":
        """Of what head.sql found: number 0 while the shard has no block."""
        if not rows:
            return Head(number=0, hash=NO_BLOCK, recorded_at=ALWAYS)
        [(number, block_hash, recorded_at)] = rows
        return Head(number=number, hash=bytes(block_hash), recorded_at=recorded_at)


def head(shard: int) -> Head:
    return Head.of(sql.rows("head", shard=shard))


def block_hash(
    *, shard: int, number: int, recorded_at: datetime, leaves_count: int, previous: bytes,
    root: bytes,
) -> bytes:  # fmt: skip
    header = _HEADER.pack(shard, number, to_us(recorded_at), leaves_count, previous, root)
    return hashlib.sha256(b"runledger block" + header).digest()


def append(shard: int, after: Head, **said: Any) -> None:
    """Write the block that `following` describes. The caller holds the shard's lock."""
    name, parameters = following(shard, after, **said)
    sql.binary(name, **parameters)


def following(
    shard: int,
    after: Head,
    *,
    leaves: Sequence[bytes],
    root: bytes | None = None,
    runs_count: int = 0,
    submission_ids: tuple[int, int] | None = None,
    corrections_count: int = 0,
    microtokens: int,
    micros: int,
    totals: bytes,
    at: datetime,
) -> sql.Statement:
    """What writes the block that follows `after`.

    `leaves` are hashes, `root` their tree's if it is known; `submission_ids` the first and the last
    that its runs came with; `totals` as ledger.totals packs them.
    If the clock was put back since, it is recorded at the same instant as the block before it: what
    a statement said as of some time is never changed by what comes after.
    """
    at = max(at, after.recorded_at)
    root = merkle.root(leaves) if root is None else root
    number = after.number + 1
    return "append_block", {
        "shard": shard,
        "number": number,
        "recorded_at": at,
        "runs_count": runs_count,
        "first_submission_id": None if submission_ids is None else submission_ids[0],
        "last_submission_id": None if submission_ids is None else submission_ids[1],
        "corrections_count": corrections_count,
        "microtokens": microtokens,
        "micros": micros,
        "leaves": b"".join(leaves),
        "totals": totals,
        "root": root,
        "previous_hash": after.hash,
        "hash": block_hash(
            shard=shard,
            number=number,
            recorded_at=at,
            leaves_count=len(leaves),
            previous=after.hash,
            root=root,
        ),
    }
