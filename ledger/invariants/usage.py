"""Of usage totals: rows are what blocks add (ledger.invariants.adding), and rungs add up."""

from collections.abc import Callable, Iterator
from typing import Final

import msgspec
import numpy as np

from ledger import sql
from ledger.folding import PLACED, WHO, by_rung, hours_of, keys_of, sum_by, time_zones
from ledger.invariants import scanning
from ledger.invariants.rows import BrokenRows, Row
from ledger.models import UsageFold
from ledger.packing import POSTGRESQL_EPOCH_US, Rows
from ledger.several import BlockTotals, told_apart
from ledger.totals import AMOUNTS, QUARTER_US

_BLOCKS_AT_ONCE: Final = 200
_BYTES_AT_ONCE: Final = 8_000_000
_ROWS_BEFORE_SUMMING: Final = 200_000


def _differ(coarser: int, finer: int) -> str:
    """Whether the rows of a rung, of those grouped, are not the sum of the rung below."""
    sums = (
        ", ".join(f"coalesce(sum({name}) FILTER (WHERE rung = {rung}), 0)" for name in AMOUNTS)
        for rung in (coarser, finer)
    )
    return "({}) <> ({})".format(*sums)


def _is_sum_of_parts(coarser: int, finer: int) -> str:
    """A row takes in those of the rung below that begin with it or later, up to the next one."""
    return f"""
        SELECT shard, account_id, min(begins_at), attribution_key, engine_id, {coarser}
        FROM (
            SELECT *, count(*) FILTER (WHERE rung = {coarser}) OVER (
                PARTITION BY shard, account_id, attribution_key, engine_id
                ORDER BY begins_at, rung DESC
            ) AS period
            FROM ledger_usage WHERE rung IN ({coarser}, {finer})
        ) AS numbered
        GROUP BY shard, account_id, attribution_key, engine_id, period
        HAVING {_differ(coarser, finer)}
    """  # noqa: S608  numbers of ours


def _is_sum_of_all(of_account: int, of_each: int) -> str:
    return f"""
        SELECT shard, account_id, begins_at, NULL, NULL, {of_account}
        FROM ledger_usage WHERE rung IN ({of_account}, {of_each})
        GROUP BY shard, account_id, begins_at
        HAVING {_differ(of_account, of_each)}
    """  # noqa: S608  numbers of ours


INVARIANTS: Final[dict[str, str]] = {
    "usage by day, by month and of a whole account is the sum of the rung below": (
        " UNION ALL ".join(
            [
                _is_sum_of_parts(2, 1),
                _is_sum_of_parts(3, 2),
                _is_sum_of_all(4, 2),
                _is_sum_of_all(5, 3),
            ]
        )
    ),
}


class Sum:
    """PLACED rows added up by `hour` and whom they are for; each is sorted a few times only."""

    def __init__(self) -> None:
        self._known = np.empty(0, PLACED)
        self._new: list[Rows] = []
        self._new_count = 0

    def add(self, rows: Rows) -> None:
        self._new.append(rows)
        self._new_count += len(rows)
        if self._new_count > max(len(self._known), _ROWS_BEFORE_SUMMING):
            self.rows()

    def rows(self) -> Rows:
        self._known = sum_by(np.concatenate([self._known, *self._new]), ("hour", *WHO))
        self._new, self._new_count = [], 0
        return self._known


def _usage_against_blocks() -> list[Row]:
    """What the folded blocks of each shard add, told apart and folded again, beside the rows."""
    broken = BrokenRows()
    folded = dict(UsageFold.objects.values_list("shard", "folded_number"))
    for shard, folded_number in sorted(folded.items()):
        known = _usage_rows(shard)
        try:
            for rung, expected in _expected(shard, folded_number):
                compare(broken, USAGE, expected, known[known["day"] == rung])
        except (msgspec.DecodeError, ValueError, LookupError) as error:
            # Details of runs of several engines that can't be read.
            broken.add(USAGE, (shard, str(error)))
    return broken.of([USAGE]).get(USAGE, [])


def _expected(shard: int, folded_number: int) -> Iterator[tuple[int, Rows]]:
    hours = Sum()
    after = 0
    while after < folded_number:
        rows = sql.binary(
            "blocks_to_fold",
            shard=shard,
            after_number=after,
            blocks_max=min(_BLOCKS_AT_ONCE, folded_number - after),
            bytes_max=_BYTES_AT_ONCE,
        )
        if not rows:
            break
        blocks = [BlockTotals.of(row) for row in rows]
        after = blocks[-1].number
        totals = told_apart(blocks)
        hours.add(hours_of(totals, time_zones=time_zones(shard, totals)))
    yield from by_rung(hours.rows())


def _usage_rows(shard: int) -> Rows:
    """As PLACED rows, with the rung in the place of the day."""
    columns = {
        "account_id": "bigint",
        "begins_at": "timestamptz",
        "rung": "smallint",
        "attribution_key": "uuid",
        "engine_id": "integer",
        **dict.fromkeys(AMOUNTS, "bigint"),
    }
    read = scanning.read(f"ledger_usage WHERE shard = {shard}", columns)
    rows = np.zeros(len(read), PLACED)
    for name in ("account_id", "engine_id", *AMOUNTS):
        rows[name] = read[name]
    rows["hour"] = (read["begins_at"] + POSTGRESQL_EPOCH_US) // QUARTER_US
    rows["day"] = read["rung"]
    put_keys(rows, read["attribution_key"])
    return rows


def put_keys(rows: Rows, keys: Rows) -> None:
    halves = np.ascontiguousarray(keys).view(">u8").reshape(-1, 2)
    rows["key_begin"], rows["key_end"] = halves[:, 0], halves[:, 1]


def compare(broken: BrokenRows, rule: str, expected: Rows, known: Rows) -> None:
    """Rows of the two that are not alike: what is expected less what is known leaves nothing."""
    less = known.copy()
    for name in AMOUNTS:
        less[name] = -known[name]
    left = sum_by(np.concatenate([expected, less]), ("hour", *WHO))
    differs = np.zeros(len(left), np.bool_)
    for name in AMOUNTS:
        differs |= left[name] != 0
    wrong = left[differs][: BrokenRows.ROWS_MAX]
    keys = keys_of(wrong)
    for key, account_id, quarter in zip(
        keys, wrong["account_id"].tolist(), wrong["hour"].tolist(), strict=True
    ):
        broken.add(rule, (account_id, quarter, key))


USAGE: Final = "usage is what the blocks that are folded add"
CHECKS: Final[dict[str, Callable[[], list[Row]]]] = {
    USAGE: _usage_against_blocks,
}
