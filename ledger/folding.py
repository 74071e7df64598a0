"""Fold what blocks add to usage into rows by hour, day and month (ledger.models.usage).

A debit only writes what its block adds (ledger.totals), packed. Many blocks are folded at once,
in a transaction of its own that holds the shard's *fold*, a row of its own that debits never
touch, so nobody waits for anybody:

    blocks   1  2  3  4  5  6 | 7  8  9
             folded           | not yet: added by whoever reads (ledger.usage)
                              folded_number = 6

The same transaction moves `folded_number` on: a block is folded once, or, after a crash, not yet.
Hours, days and months begin in the account's own time zone. When an account moves to another
(ledger.moving), its rows are written anew from the blocks, in one transaction.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

import numpy as np
from django.db import connection, transaction

from ledger import days, sql
from ledger.instants import to_us
from ledger.models import Account, Usage, UsageFold
from ledger.packing import Integers, Rows, bigints, pick_rows
from ledger.several import BlockTotals, told_apart
from ledger.totals import AMOUNTS, QUARTER_US
from ledger.units import ALWAYS, SHARDS, shard_of

BLOCKS_PER_FOLD_MAX: Final = 500
BLOCKS_WORTH_A_FOLD: Final = 64
FOLDED_AFTER: Final = timedelta(minutes=1)
SHARDS_AT_A_TIME: Final = 16
# About a hundred thousand rows: a fold's memory is a small multiple of it.
BYTES_PER_FOLD_MAX: Final = 8_000_000

# Totals by when the account's own hour, day and month began, in quarters of an hour since 1970.
PLACED: Final = np.dtype(
    [
        ("account_id", "<i8"),
        ("hour", "<i8"),
        ("day", "<i8"),
        ("month", "<i8"),
        ("key_begin", ">u8"),
        ("key_end", ">u8"),
        ("engine_id", "<i8"),
        *[(name, "<i8") for name in AMOUNTS],
    ]
)
_QUARTER_BITS: Final = 32
_QUARTERS_MAX: Final = (1 << _QUARTER_BITS) - 1
WHO: Final = ("key_begin", "key_end", "engine_id")


def fold_due(*, at: datetime) -> int:
    """Fold some shards in which it is worth it, or that have waited long enough; how many blocks.

    A shard costs much the same however few blocks are folded at once, and debits wait meanwhile
    for the processor: so seldom, and a few at a time.
    """
    due = _shards_to_fold(
        blocks_min=BLOCKS_WORTH_A_FOLD, before=at - FOLDED_AFTER, shards_max=SHARDS_AT_A_TIME
    )
    return sum(fold_shard(shard=shard) for shard in due)


def fold_all() -> int:
    """Fold everything; how many blocks."""
    shards = _shards_to_fold(blocks_min=1, before=ALWAYS, shards_max=SHARDS)
    return sum(fold_shard(shard=shard) for shard in shards)


def _shards_to_fold(*, blocks_min: int, before: datetime, shards_max: int) -> list[int]:
    rows = sql.rows(
        "shards_to_fold",
        shards=SHARDS,
        blocks_min=blocks_min,
        before=before,
        shards_max=shards_max,
    )
    return [shard for (shard,) in rows]


def fold_shard(*, shard: int) -> int:
    """Fold a shard's blocks, one transaction after another; how many.

    0 if there are none, and while another process folds them.
    """
    sql.execute("begin_folds", shards=[shard])
    total = 0
    while blocks_count := _fold_next(shard):
        total += blocks_count
    return total


def refold_account(*, account_id: int, time_zone: str) -> None:
    """Write an account's rows anew, from every block of its shard that is folded.

    Joins the caller's transaction, and is the only one who folds the shard until that ends;
    debits go on meanwhile.
    """
    assert connection.in_atomic_block
    shard = shard_of(account_id)
    sql.execute("begin_folds", shards=[shard])
    folded_number = UsageFold.objects.select_for_update().get(shard=shard).folded_number
    Usage.objects.filter(shard=shard, account_id=account_id).delete()
    after_number = 0
    while blocks := _blocks(shard, after_number=after_number, until_number=folded_number):
        _add_all(shard, told_apart(blocks, account_ids=[account_id]), {account_id: time_zone})
        after_number = blocks[-1].number


def _fold_next(shard: int) -> int:
    with transaction.atomic():
        locked = sql.rows("lock_fold", shard=shard)
        if not locked:
            return 0
        [(folded_number,)] = locked
        blocks = _blocks(shard, after_number=folded_number, until_number=None)
        if not blocks:
            return 0
        totals = told_apart(blocks)
        _add_all(shard, totals, time_zones(shard, totals))
        UsageFold.objects.filter(shard=shard).update(folded_number=blocks[-1].number)
        return len(blocks)


def _blocks(shard: int, *, after_number: int, until_number: int | None) -> list[BlockTotals]:
    """The next blocks, as many as are folded at once; with `until_number`, none beyond it."""
    rows = sql.binary(
        "blocks_to_fold",
        shard=shard,
        after_number=after_number,
        blocks_max=(
            BLOCKS_PER_FOLD_MAX
            if until_number is None
            else min(BLOCKS_PER_FOLD_MAX, until_number - after_number)
        ),
        bytes_max=BYTES_PER_FOLD_MAX,
    )
    return [BlockTotals.of(row) for row in rows]


def _add_all(shard: int, totals: Rows, time_zones: Mapping[int, str]) -> None:
    """Add TOTAL rows to the rows of every rung."""
    for rung, added in by_rung(hours_of(totals, time_zones=time_zones)):
        _add(shard, rung, added)


def hours_of(totals: Rows, *, time_zones: Mapping[int, str]) -> Rows:
    """TOTAL rows added up by the hour: PLACED rows."""
    return sum_by(placed(totals, time_zones=time_zones), ("hour", *WHO))


def by_rung(hours: Rows) -> Iterator[tuple[int, Rows]]:
    """What hours of PLACED rows add to each rung; each is the sum of the one below it."""
    yield Usage.Rung.HOUR, hours
    for name, rung, rung_of_account in (
        ("day", Usage.Rung.DAY, Usage.Rung.ACCOUNT_DAY),
        ("month", Usage.Rung.MONTH, Usage.Rung.ACCOUNT_MONTH),
    ):
        added = sum_by(hours, (name, *WHO))
        added["hour"] = added[name]
        yield rung, added
        of_account = sum_by(added, (name,))
        for column in WHO:
            of_account[column] = 0
        yield rung_of_account, of_account


def time_zones(shard: int, totals: Rows) -> dict[int, str]:
    """Of the accounts that TOTAL rows name."""
    account_ids = np.unique(totals["account_id"]).tolist()
    found = Account.objects.filter(shard=shard, id__in=account_ids).values_list("id", "time_zone")
    return dict(found)


def placed(totals: Rows, *, time_zones: Mapping[int, str]) -> Rows:
    """TOTAL rows as PLACED rows."""
    rows = np.empty(len(totals), PLACED)
    for name in ("account_id", "engine_id", *AMOUNTS):
        rows[name] = totals[name]
    halves = np.ascontiguousarray(totals["attribution_key"]).view(">u8").reshape(-1, 2)
    rows["key_begin"], rows["key_end"] = halves[:, 0], halves[:, 1]
    begins = _begins(totals, time_zones)
    rows["hour"], rows["day"], rows["month"] = begins[:, 0], begins[:, 1], begins[:, 2]
    return rows


def _begins(totals: Rows, time_zones: Mapping[int, str]) -> Integers:
    """For each row, when the hour, the day and the month began, in quarters of an hour."""
    account_ids, of_row = np.unique(totals["account_id"], return_inverse=True)
    # That an account is missing is for the invariants to say.
    of_account = [time_zones.get(one, "UTC") for one in account_ids.tolist()]
    names = sorted(set(of_account))
    zones = np.array([names.index(name) for name in of_account], np.int64)
    pairs, of_pair = np.unique(
        zones[of_row] << _QUARTER_BITS | totals["quarter"].astype(np.int64), return_inverse=True
    )
    table = [
        [
            to_us(begin) // QUARTER_US
            for begin in days.of_quarter(pair & _QUARTERS_MAX, names[pair >> _QUARTER_BITS])
        ]
        for pair in pairs.tolist()
    ]
    return np.array(table, np.int64).reshape(-1, 3)[of_pair]


def sum_by(rows: Rows, columns: Sequence[str]) -> Rows:
    """PLACED rows added up where account and these columns are alike; of the others, the first."""
    columns = ("account_id", *columns)
    rows = pick_rows(rows, np.lexsort([rows[name] for name in reversed(columns)]))
    differs = np.ones(len(rows), np.bool_)
    differs[1:] = False
    for name in columns:
        differs[1:] |= rows[name][1:] != rows[name][:-1]
    begins = np.flatnonzero(differs)
    summed = pick_rows(rows, begins)
    for name in AMOUNTS:
        if len(begins):
            summed[name] = np.add.reduceat(rows[name], begins)
    return summed


def keys_of(rows: Rows) -> list[str]:
    """The attribution keys of PLACED rows, in hexadecimal."""
    packed = np.empty((len(rows), 2), ">u8")
    packed[:, 0], packed[:, 1] = rows["key_begin"], rows["key_end"]
    digits = packed.tobytes().hex()
    return [digits[begin : begin + 32] for begin in range(0, len(digits), 32)]


def _add(shard: int, rung: int, rows: Rows) -> None:
    sql.binary(
        "add_usage",
        shard=shard,
        rung=rung,
        account_ids=bigints(rows["account_id"]),
        begin_quarters=bigints(rows["hour"]),
        attribution_keys=sql.array(keys_of(rows)),
        engine_ids=bigints(rows["engine_id"]),
        **{name: bigints(rows[name]) for name in AMOUNTS},
    )
