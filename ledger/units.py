"""The units in which the ledger counts, their limits, and exact conversion.

Tokens are counted in microtokens: 1 token = 1_000_000 microtokens. Money is counted in micros of
its currency: 1 euro = 1_000_000 micros. Both are whole numbers everywhere inside the ledger, and
a name that holds one ends in `microtokens` or `micros`. Decimals exist only where a person types
or reads them; floats exist nowhere. (The words are spelled out because in this field "MTok"
means a million tokens.)
"""

import hashlib
import re
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, NewType

Microtokens = NewType("Microtokens", int)
Micros = NewType("Micros", int)

MICROTOKENS_PER_TOKEN: Final = 1_000_000
MICROS_PER_UNIT_OF_MONEY: Final = 1_000_000

# One lot holds at most a billion tokens, so that a bigint sums nine thousand such lots.
LOT_MICROTOKENS_MAX: Final = 1_000_000_000 * MICROTOKENS_PER_TOKEN
# One run costs at most a hundred million tokens: a block of 20,000 such runs still fits a bigint.
RUN_MICROTOKENS_MAX: Final = 100_000_000 * MICROTOKENS_PER_TOKEN
# What a lot without an end of its own (debt, overage without a cap) may take.
UNBOUNDED_MICROTOKENS: Final = 4_000_000_000_000_000_000
LOT_PRICE_MICROS_MAX: Final = 1_000_000_000 * MICROS_PER_UNIT_OF_MONEY
QUANTITY_MAX: Final = 1_000_000_000_000

# Instants that stand for "always" and "never" where a comparison needs an instant.
ALWAYS: Final = datetime(1970, 1, 1, tzinfo=UTC)
NEVER: Final = datetime(9999, 1, 1, tzinfo=UTC)

SHARDS: Final = 256  # of the schema; in how many of them accounts are opened is a setting


def from_tokens(tokens: Decimal) -> Microtokens:
    """Exact conversion. Raises ValueError for a fraction of a microtoken."""
    microtokens = tokens * MICROTOKENS_PER_TOKEN
    if microtokens != int(microtokens):
        raise ValueError(f"{tokens} tokens is not a whole number of microtokens")
    return Microtokens(int(microtokens))


def to_tokens(microtokens: int) -> Decimal:
    return Decimal(microtokens) / MICROTOKENS_PER_TOKEN


def tokens_text(microtokens: int) -> str:
    """Tokens as a person reads them: `1234.5`, never an exponent, no trailing zeros."""
    whole, fraction = divmod(abs(microtokens), MICROTOKENS_PER_TOKEN)
    sign = "-" if microtokens < 0 else ""
    if not fraction:
        return f"{sign}{whole}"
    return f"{sign}{whole}.{fraction:06d}".rstrip("0")


def shard_of_code(*, book_id: int, code: str, shards: int) -> int:
    """Where the account `code` is opened while so many shards are in use: a fixed hash.

    Only for that: how many are in use may change, and accounts stay. An account's shard is in its
    id; whoever has no more than the code looks in `shards_of_code`.
    """
    return hashlib.sha256(f"{book_id}:{code}".encode()).digest()[0] % shards


def shards_of_code(*, book_id: int, code: str) -> set[int]:
    """The few shards in which the account `code` may be, however many were in use: a power of 2."""
    return {
        shard_of_code(book_id=book_id, code=code, shards=1 << power)
        for power in range(SHARDS.bit_length())
    }


def shard_of(identifier: int) -> int:
    """The shard in which an account or lot lives: the lowest byte of its id."""
    return identifier & (SHARDS - 1)


def part_key(part: str) -> int:
    """The number under which a part is unique in its run; 0 stands for the run itself."""
    if not part:
        return 0
    digest = hashlib.sha256(part.encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True) | 1


def run_key(run_id: str) -> uuid.UUID:
    """The 16 bytes under which a run is unique in its account.

    A UUID in its canonical spelling is taken as it is (version 7 keeps the index in order of
    time); any other id is hashed (RFC 9562, version 8), so that two spellings stay two ids.
    """
    return uuid.UUID(bytes=run_key_bytes(run_id))


def run_key_bytes(run_id: str) -> bytes:
    if len(run_id) == 36 and _is_uuid(run_id):
        return bytes.fromhex(run_id.replace("-", ""))
    digest = hashlib.sha256(run_id.encode()).digest()
    return digest[:6] + _VERSION_8[digest[6]] + digest[7:8] + _VARIANT[digest[8]] + digest[9:16]


def run_keys(run_ids: Sequence[str]) -> list[bytes]:
    """As run_key_bytes, for many: where all of them are UUIDs, they are read in one go."""
    lines = "\n".join(run_ids)
    # As many lines as ids, each a UUID: so none of the ids has lines of its own.
    if lines.translate(_ZEROS) + "\n" != _UUID_LINE * len(run_ids):
        return [run_key_bytes(run_id) for run_id in run_ids]
    packed = bytes.fromhex(lines.replace("-", ""))
    return [packed[begin : begin + 16] for begin in range(0, len(packed), 16)]


_UUID_LINE: Final = f"{uuid.UUID(int=0)}\n"
_ZEROS: Final = str.maketrans("123456789abcdef", "0" * 15)
_is_uuid: Final = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
).fullmatch
_VERSION_8: Final = [bytes([byte & 0x0F | 0x80]) for byte in range(256)]
_VARIANT: Final = [bytes([byte & 0x3F | 0x80]) for byte in range(256)]
