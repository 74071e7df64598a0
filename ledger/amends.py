"""What a correction says, and its leaf: whoever holds a receipt can rebuild it.

The leaf is the letter C, then shard, account id, run key, version, the instant in whole
microseconds since 1970, microtokens, micros, and the SHA-256 of the correction's JSON as it is
stored; all big-endian.
"""

import hashlib
import struct
import uuid
from dataclasses import dataclass
from typing import Final

import msgspec

from ledger import merkle

# Kind, lot id, out before and microtokens of one entry that the correction wrote.
Moved = tuple[str, int, int, int]
# A part of the run (0: the run itself), and what it costs more in microtokens and in micros.
Changed = tuple[int, int, int]
# An inference priced anew: the version of the rate card, and microtokens.
Rated = tuple[int, int]


class Amends(msgspec.Struct, frozen=True, omit_defaults=True):
    """A correction's details."""

    kind: str
    reason: str = ""
    entries: list[Moved] = []
    changes: list[Changed] = []
    outcome: str = ""  # the run's, from now on
    fault: str = ""
    retaken_by: str = ""  # the id of the run that does it again
    part: int = 0  # the key of the part that came late
    rated: list[tuple[int, list[Rated]]] = []  # for each part, its inferences


encode: Final = msgspec.json.Encoder(order="deterministic").encode
decode: Final = msgspec.json.Decoder(Amends).decode

_LEAF: Final = struct.Struct(">chq16siqqq32s")


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """What a correction's leaf covers."""

    shard: int
    account_id: int
    run_key: uuid.UUID
    version: int
    recorded_at_us: int
    microtokens: int
    micros: int
    details: bytes

    def hash(self) -> bytes:
        return merkle.leaf_hash(
            _LEAF.pack(
                b"C",
                self.shard,
                self.account_id,
                self.run_key.bytes,
                self.version,
                self.recorded_at_us,
                self.microtokens,
                self.micros,
                hashlib.sha256(self.details).digest(),
            )
        )
