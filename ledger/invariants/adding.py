"""Of what blocks add to usage, as runs are read from end to end: it is what their runs cost.

Runs are many and need not be put in order for it. Every account, quarter of an hour, engine and
attribution stands for a random number, drawn anew each time; each amount, times the number of whom
it is for, is added for runs and taken away for blocks, modulo 2⁶⁴. Nothing is left if they are
alike; that nothing is left of what is not alike is next to impossible. Only if something is left
are runs and blocks set against each other row by row.
"""

import secrets
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ledger.folding import PLACED, WHO, sum_by
from ledger.invariants import scanning
from ledger.invariants.places import random_numbers
from ledger.invariants.rows import BrokenRows
from ledger.invariants.usage import Sum, compare, put_keys
from ledger.packing import FAILED, POSTGRESQL_EPOCH_US, RETAKE, Rows
from ledger.totals import AMOUNTS, QUARTER_US, unpack

BLOCKS: Final = "blocks add to usage what their runs and corrections cost"
NAMES: Final = (BLOCKS,)

_BLOCKS_AT_ONCE: Final = 200
_OF_RUNS: Final = f"""(
    SELECT account_id, date_bin('15 minutes', occurred_at, '1970-01-01Z') AS quarter,
           attribution_key, engine_id,
           count(*) FILTER (WHERE part = 0) AS runs_count,
           count(*) FILTER (WHERE part = 0 AND flags & {FAILED | RETAKE} = 0)
               AS accepted_first_count,
           count(*) FILTER (WHERE part = 0 AND flags & {FAILED} <> 0) AS failed_count,
           count(*) FILTER (WHERE part = 0 AND flags & {RETAKE} <> 0) AS retakes_count,
           sum(microtokens)::bigint AS microtokens,
           sum(micros)::bigint AS micros,
           coalesce(sum(microtokens) FILTER (WHERE flags & {FAILED} <> 0), 0)::bigint
               AS rework_microtokens,
           coalesce(sum(micros) FILTER (WHERE flags & {FAILED} <> 0), 0)::bigint AS rework_micros
    FROM ledger_run GROUP BY 1, 2, 3, 4
) AS used"""  # noqa: S608  numbers of ours
_BLOCKS: Final = """
    SELECT shard, number, corrections_count, microtokens, micros, totals FROM ledger_block
    WHERE (shard, number) > (%(shard)s, %(number)s) ORDER BY shard, number LIMIT %(blocks_max)s
"""


class Added:
    """What runs cost that were seen so far, less what blocks add."""

    def __init__(self, broken: BrokenRows) -> None:
        self._broken = broken
        self._secret = np.uint64(secrets.randbits(64))
        self._left = dict.fromkeys(AMOUNTS, 0)

    def take(self, runs: Rows) -> None:
        is_run = runs["part"] == 0
        failed = runs["flags"] & FAILED != 0
        retakes = runs["flags"] & RETAKE != 0
        quarters = (runs["occurred_at"] + POSTGRESQL_EPOCH_US) // QUARTER_US
        amounts = {
            "runs_count": is_run,
            "accepted_first_count": is_run & ~failed & ~retakes,
            "failed_count": is_run & failed,
            "retakes_count": is_run & retakes,
            "microtokens": runs["microtokens"],
            "micros": runs["micros"],
            "rework_microtokens": np.where(failed, runs["microtokens"], 0),
            "rework_micros": np.where(failed, runs["micros"], 0),
        }
        self._add(1, runs, quarters, amounts)

    def judge(self) -> None:
        """When all runs were seen. A correction's block is its own sum."""
        for blocks in _all_blocks():
            of_runs = [np.frombuffer(b"", unpack(b"").dtype)]
            for shard, number, corrections_count, microtokens, micros, packed in blocks:
                totals = unpack(packed)
                if (totals["microtokens"].sum(), totals["micros"].sum()) != (microtokens, micros):
                    self._broken.add(BLOCKS, (shard, number))
                elif not corrections_count:
                    of_runs.append(totals)
            together = np.concatenate(of_runs)
            amounts = {name: together[name] for name in AMOUNTS}
            self._add(-1, together, together["quarter"], amounts)
        if any(left % 2**64 for left in self._left.values()):
            self._tell_rows()

    def _add(
        self,
        sign: int,
        rows: Rows,
        quarters: npt.NDArray[Any],
        amounts: Mapping[str, npt.NDArray[Any]],
    ) -> None:
        halves = np.ascontiguousarray(rows["attribution_key"]).view(">u8").reshape(-1, 2)
        whom = (rows["account_id"], quarters, halves[:, 0], halves[:, 1], rows["engine_id"])
        numbers = random_numbers(self._secret, *whom)
        for name, column in amounts.items():
            self._left[name] += sign * int((numbers * column.astype(np.uint64)).sum())

    def _tell_rows(self) -> None:
        added = Sum()
        for blocks in _all_blocks():
            for _, _, corrections_count, microtokens, micros, packed in blocks:
                placed = _by_quarter(unpack(packed))
                is_right = (placed["microtokens"].sum(), placed["micros"].sum()) == (
                    microtokens,
                    micros,
                )
                if is_right and not corrections_count:
                    added.add(placed)
        compare(self._broken, BLOCKS, added.rows(), _runs_by_quarter())
        if not self._broken.of([BLOCKS]):
            self._broken.add(BLOCKS, ("sums differ, and no row does",))


def _all_blocks() -> Iterator[list[tuple[int, int, int, int, int, bytes]]]:
    shard, number, is_last = -1, 0, False
    while not is_last:
        rows = scanning.bytes_of(_BLOCKS, shard=shard, number=number, blocks_max=_BLOCKS_AT_ONCE)
        is_last = len(rows) < _BLOCKS_AT_ONCE
        if rows:
            shard, number = rows[-1][:2]
            yield rows


def _by_quarter(totals: Rows) -> Rows:
    """TOTAL rows as PLACED rows whose `hour` is the quarter itself."""
    rows = np.zeros(len(totals), PLACED)
    for name in ("account_id", "engine_id", *AMOUNTS):
        rows[name] = totals[name]
    rows["hour"] = totals["quarter"]
    put_keys(rows, totals["attribution_key"])
    return rows


def _runs_by_quarter() -> Rows:
    columns = {
        "account_id": "bigint",
        "quarter": "timestamptz",
        "attribution_key": "uuid",
        "engine_id": "integer",
        **dict.fromkeys(AMOUNTS, "bigint"),
    }
    read = scanning.read(_OF_RUNS, columns)
    rows = np.zeros(len(read), PLACED)
    for name in ("account_id", "engine_id", *AMOUNTS):
        rows[name] = read[name]
    rows["hour"] = (read["quarter"] + POSTGRESQL_EPOCH_US) // QUARTER_US
    put_keys(rows, read["attribution_key"])
    return sum_by(rows, ("hour", *WHO))
