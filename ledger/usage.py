"""What runs used: by who they were for, by engine, by hour, day and month; exact at every moment.

What is folded (ledger.folding) is read on the rung that fits: whole months as months, the days
left over as days, and only the edges by the hour, so that a year takes a few thousand rows. What is
not folded yet is in the latest blocks, and is added to it.

Time is counted in whole hours of the account's own time zone: a window takes in every hour that
it touches. Every number is the sum of what runs' receipts say, corrections included, each at its
run's own time.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from fractions import Fraction
from itertools import groupby
from operator import attrgetter
from typing import Final, Literal

import numpy as np

from ledger import days, sql
from ledger.days import Granularity
from ledger.folding import PLACED, WHO, keys_of, placed, sum_by
from ledger.instants import EPOCH, from_us, to_us
from ledger.models import Account, Usage
from ledger.several import BlockTotals, told_apart
from ledger.totals import AMOUNTS, QUARTER_US
from ledger.units import Micros, Microtokens, shard_of

Dimension = Literal[
    "account", "workflow", "project", "job", "cost_centre", "department", "actor", "engine"
]
NAMES: Final[tuple[Dimension, ...]] = (
    "workflow", "project", "job", "cost_centre", "department", "actor", "engine",
)  # fmt: skip
_FINEST_LAST: Final[tuple[Granularity, ...]] = ("month", "day", "hour")
_RUNGS: Final[Mapping[Granularity, int]] = {
    "hour": Usage.Rung.HOUR,
    "day": Usage.Rung.DAY,
    "month": Usage.Rung.MONTH,
}
_RUNGS_OF_ACCOUNT: Final[Mapping[Granularity, int]] = {
    "hour": Usage.Rung.HOUR,
    "day": Usage.Rung.ACCOUNT_DAY,
    "month": Usage.Rung.ACCOUNT_MONTH,
}


@dataclass(frozen=True, kw_only=True)
class UsageLine:
    """What the runs used that have these names in common; None where nobody asked.

    `engine` is empty for the counts of runs that took several engines; what they cost stands with
    each of those. `rework` is what failed and retaken runs cost.
    """

    account_id: int | None
    begins_at: datetime | None
    workflow: str | None
    project: str | None
    job: str | None
    cost_centre: str | None
    department: str | None
    actor: str | None
    engine: str | None
    runs_count: int
    accepted_first_count: int
    failed_count: int
    retakes_count: int
    microtokens: Microtokens
    micros: Micros
    rework_microtokens: Microtokens
    rework_micros: Micros

    @property
    def works_count(self) -> int:
        """Pieces of work: a retake does again what another run did."""
        return self.runs_count - self.retakes_count

    @property
    def accepted_first_share(self) -> Fraction | None:
        """The validated utility rate: of the pieces of work, those accepted the first time."""
        return Fraction(self.accepted_first_count, self.works_count) if self.works_count else None

    @property
    def unit_microtokens(self) -> Microtokens | None:
        """What a piece of work cost, retakes and failures included; rounded down."""
        if self.works_count <= 0:
            return None
        return Microtokens(self.microtokens // self.works_count)


@dataclass(frozen=True, kw_only=True)
class UnitCost:
    """What a workflow's piece of work cost, month by month."""

    workflow: str
    months: tuple[UsageLine, ...]  # the oldest first; months without runs are left out

    @property
    def change(self) -> Fraction | None:
        """By what part the unit cost of the last month differs from that of the one before."""
        known = [month.unit_microtokens for month in self.months if month.unit_microtokens]
        return Fraction(known[-1] - known[-2], known[-2]) if len(known) > 1 else None


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """A part of a window, and the rung on which it is read."""

    rung: Granularity
    from_at: datetime
    until_at: datetime


def read(
    *,
    account_ids: Sequence[int],
    from_at: datetime,
    until_at: datetime,
    by: Sequence[Dimension] = (),
    granularity: Granularity | None = None,
    only: Mapping[Dimension, Sequence[str]] | None = None,
) -> list[UsageLine]:
    """What runs used that occurred in the hours of [from_at, until_at), a line for each of `by`.

    With a granularity, a line for each hour, day or month in which there was use; `begins_at`
    says which. `only` narrows it down: {"workflow": ["review"], "engine": ["gpt"]}. Lines come in
    order of time, then the largest first. A year of a busy account reads in milliseconds.
    """
    only = {} if only is None else only
    assert set(by) <= {"account", *NAMES}
    assert set(only) <= set(NAMES)
    asked = _Asked(from_at=from_at, until_at=until_at, by=by, granularity=granularity, only=only)
    while True:
        zones = _by_time_zone(account_ids)
        lines = [line for zone, ids in zones for line in _of_one_time_zone(asked, zone, ids)]
        # An account that moves meanwhile has rows that begin at other instants.
        if _by_time_zone(account_ids) == zones:
            return _merged(lines) if len(account_ids) > 1 else lines


def by_workflow(*, account_id: int, from_at: datetime, until_at: datetime) -> list[UsageLine]:
    """What runs of an account cost in the hours of [from_at, until_at), the dearest first."""
    return read(account_ids=[account_id], from_at=from_at, until_at=until_at, by=["workflow"])


def by_cost_centre(
    *, account_id: int, from_at: datetime, until_at: datetime
) -> dict[str, Microtokens]:
    """What each cost centre's runs used in [from_at, until_at), to the instant, unlike `read`.

    Edges that are no whole hours of the account's are counted from its runs, which takes a while
    where there are many.
    """
    [(time_zone, _)] = _by_time_zone([account_id])
    first, last = _whole_hours(from_at, until_at, time_zone)
    used: dict[str, int] = defaultdict(int)
    if first < last:
        for line in read(
            account_ids=[account_id], from_at=first, until_at=last, by=["cost_centre"]
        ):
            used[line.cost_centre or ""] += line.microtokens
        edges = [(from_at, first), (last, until_at)]
    else:
        edges = [(from_at, until_at)]
    if edges := [(begin, end) for begin, end in edges if begin < end]:
        for cost_centre, microtokens in sql.rows(
            "cost_centres_between",
            shard=shard_of(account_id),
            account_id=account_id,
            from_at=[begin for begin, _ in edges],
            until_at=[end for _, end in edges],
        ):
            used[cost_centre] += microtokens
    return {cost_centre: Microtokens(used[cost_centre]) for cost_centre in sorted(used)}


def unit_costs(*, account_id: int, from_at: datetime, until_at: datetime) -> list[UnitCost]:
    """What each workflow's piece of work cost, by month."""
    lines = read(
        account_ids=[account_id],
        from_at=from_at,
        until_at=until_at,
        by=["workflow"],
        granularity="month",
    )
    by_name = groupby(sorted(lines, key=attrgetter("workflow")), key=attrgetter("workflow"))
    return [UnitCost(workflow=workflow, months=tuple(months)) for workflow, months in by_name]


def cover(
    from_at: datetime, until_at: datetime, rungs: Sequence[Granularity], time_zone: str
) -> Iterator[Stretch]:
    """[from_at, until_at), whole hours, in as few pieces as these rungs allow, the coarsest first.

    No piece of a finer rung reaches beyond one day or month of the next.
    """
    if from_at >= until_at:
        return
    rung, *finer = rungs
    if not finer:
        yield Stretch(rung=rung, from_at=from_at, until_at=until_at)
        return
    first = days.next_or_same(from_at, rung, time_zone)
    last = days.begin(until_at, rung, time_zone)
    if first > last:
        yield from cover(from_at, until_at, finer, time_zone)
        return
    yield from cover(from_at, first, finer, time_zone)
    if first < last:
        yield Stretch(rung=rung, from_at=first, until_at=last)
    yield from cover(last, until_at, finer, time_zone)


def _whole_hours(
    from_at: datetime, until_at: datetime, time_zone: str
) -> tuple[datetime, datetime]:
    """The first hour that begins in a window, and the last that ends in it."""
    first = days.begin(from_at, "hour", time_zone)
    return (
        first if first == from_at else first + days.HOUR,
        days.begin(until_at, "hour", time_zone),
    )


@dataclass(frozen=True, kw_only=True)
class _Asked:
    from_at: datetime
    until_at: datetime
    by: Sequence[Dimension]
    granularity: Granularity | None
    only: Mapping[Dimension, Sequence[str]]

    @property
    def is_of_accounts(self) -> bool:
        """Whether nothing is asked that the accounts' own rungs leave out."""
        return not self.only and set(self.by) <= {"account"}

    def window(self, time_zone: str) -> tuple[datetime, datetime]:
        """Whole hours."""
        from_at = days.begin(self.from_at, "hour", time_zone)
        until_at = days.begin(self.until_at, "hour", time_zone)
        return from_at, until_at if until_at == self.until_at else until_at + days.HOUR

    def stretches(self, time_zone: str) -> list[Stretch]:
        from_at, until_at = self.window(time_zone)
        coarsest = 0 if self.granularity is None else _FINEST_LAST.index(self.granularity)
        return list(cover(from_at, until_at, _FINEST_LAST[coarsest:], time_zone))

    def label(self, stretch: Stretch, time_zone: str) -> datetime | None:
        """When what a stretch's rows belong to began; None: they know."""
        if self.granularity is None:
            return self.from_at
        if stretch.rung == self.granularity:
            return None
        return days.begin(stretch.from_at, self.granularity, time_zone)


def _by_time_zone(account_ids: Sequence[int]) -> list[tuple[str, list[int]]]:
    shards = {shard_of(one) for one in account_ids}
    known = Account.objects.filter(shard__in=shards, id__in=list(account_ids))
    zones = sorted(known.values_list("time_zone", "id"))
    return [
        (time_zone, [account_id for _, account_id in rows])
        for time_zone, rows in groupby(zones, key=lambda row: row[0])
    ]


def _of_one_time_zone(asked: _Asked, time_zone: str, account_ids: Sequence[int]) -> list[UsageLine]:
    shards = sorted({shard_of(one) for one in account_ids})
    stretches = asked.stretches(time_zone)
    rungs = _RUNGS_OF_ACCOUNT if asked.is_of_accounts else _RUNGS
    parameters = {
        "shards": shards,
        "account_ids": list(account_ids),
        "grouped_by": list(asked.by),
        "rungs": [rungs[one.rung] for one in stretches],
        "from_at": [one.from_at for one in stretches],
        "until_at": [one.until_at for one in stretches],
        "labels": [asked.label(one, time_zone) for one in stretches],
    }
    statement = "usage_of_accounts" if asked.is_of_accounts else "usage"
    if not asked.is_of_accounts:
        parameters |= {f"{name}s": _wanted(asked, name) for name in NAMES}
        parameters["is_narrow"] = bool(set(asked.only) - {"engine"})
    while True:
        # A fold between the two reads would count its blocks twice, or not at all.
        folded = _folded(shards)
        new = _unfolded(asked, time_zone, account_ids, shards)
        lines = sql.query(UsageLine, statement, **parameters, **new)
        if _folded(shards) == folded:
            return lines if asked.granularity else [replace(one, begins_at=None) for one in lines]


def _wanted(asked: _Asked, name: Dimension) -> list[str] | None:
    return list(asked.only[name]) if name in asked.only else None


def _folded(shards: Sequence[int]) -> list[tuple[int, int]]:
    return sql.rows("folded_numbers", shards=list(shards))


def _unfolded(
    asked: _Asked, time_zone: str, account_ids: Sequence[int], shards: Sequence[int]
) -> dict[str, str]:
    """What is not folded yet, as parameters of the statements."""
    blocks = [BlockTotals.of(row) for row in sql.binary("unfolded_blocks", shards=list(shards))]
    zones = dict.fromkeys(account_ids, time_zone)
    found = [np.empty(0, PLACED)]
    for _, of_shard in groupby(blocks, key=attrgetter("shard")):
        added = told_apart(list(of_shard), account_ids=account_ids)
        if len(added):
            found.append(placed(added, time_zones=zones))
    from_at, until_at = (to_us(one) // QUARTER_US for one in asked.window(time_zone))
    rows = np.concatenate(found)
    rows = sum_by(rows[(rows["hour"] >= from_at) & (rows["hour"] < until_at)], ("hour", *WHO))
    begins = (
        [asked.from_at] * len(rows)
        if asked.granularity is None
        else [from_us(begin * QUARTER_US) for begin in rows[asked.granularity].tolist()]
    )
    return {
        "new_account_ids": sql.array(rows["account_id"].tolist()),
        "new_begins_at": sql.array(begins),
        "new_attribution_keys": sql.array(keys_of(rows)),
        "new_engine_ids": sql.array(rows["engine_id"].tolist()),
        **{f"new_{name}": sql.array(rows[name].tolist()) for name in AMOUNTS},
    }


def _merged(lines: Sequence[UsageLine]) -> list[UsageLine]:
    """Lines of several time zones, or books, that say the same but for their amounts, added up."""
    merged: dict[tuple[object, ...], UsageLine] = {}
    for line in lines:
        key = tuple(value for name, value in vars(line).items() if name not in AMOUNTS)
        known = merged.get(key)
        sums = {name: getattr(known, name, 0) + getattr(line, name) for name in AMOUNTS}
        merged[key] = replace(line, **sums)
    return sorted(merged.values(), key=lambda line: (line.begins_at or EPOCH, -line.microtokens))
