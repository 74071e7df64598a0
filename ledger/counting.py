"""Counting on limits: what runs used, and what holds reserve.

Whoever counts has the accounts' rows locked (the debit by debiting them, holds by
sql/hold_accounts.sql), so what is read here stays true until the transaction ends: a cap is exact
however many ask at once, also where nothing was ever counted before.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ledger import sql
from ledger.caps import Cap
from ledger.units import shard_of

# A limit, a value of its scope, and the beginning of a period.
Counter = tuple[int, str, datetime]


@dataclass(slots=True)
class Count:
    """What stands on a counter."""

    used: int = 0
    held: int = 0


@dataclass(slots=True)
class Counts:
    """What is counted in one transaction: read first, then added to, then written."""

    standing: dict[Counter, Count] = field(default_factory=dict)
    added: dict[Counter, Count] = field(default_factory=lambda: defaultdict(Count))

    def read(self, counters: Iterable[Counter]) -> None:
        """Read those that are not known yet."""
        unread = sorted({one for one in counters if one not in self.standing})
        if not unread:
            return
        self.standing.update((one, Count()) for one in unread)
        for row in sql.query(_CountRow, "limit_counts", **_columns(unread)):
            counter = (row.limit_id, row.scope_value, row.period_start)
            self.standing[counter] = Count(used=row.used, held=row.held)

    def taken(self, counter: Counter) -> int:
        """What is used and held together, with what this transaction added."""
        standing, added = self.standing[counter], self.added[counter]
        return standing.used + standing.held + added.used + added.held

    def hold(self, counter: Counter, amount: int) -> None:
        self.added[counter].held += amount

    def use(self, counter: Counter, amount: int) -> None:
        self.added[counter].used += amount

    def write(self) -> None:
        counters = sorted(one for one, added in self.added.items() if added.used or added.held)
        if not counters:
            return
        columns = _columns(counters)
        sql.execute("begin_counts", **columns)
        sql.execute(
            "count_on_limits",
            **columns,
            used=[self.added[one].used for one in counters],
            held=[self.added[one].held for one in counters],
        )


@dataclass(frozen=True, kw_only=True)
class EndedHold:
    """What a hold counts for no more: a row of let_time_pass.sql and settle_holds.sql."""

    account_id: int
    microtokens: int
    micros: int
    held_at: datetime
    limit_ids: list[int]
    workflow: str
    project: str
    job: str
    cost_centre: str
    actor: str


def caps_of(account_ids: Iterable[int]) -> dict[int, list[Cap]]:
    """The limits of these accounts that are not ended, in the order in which they are asked."""
    caps: dict[int, list[Cap]] = defaultdict(list)
    ids = sorted(account_ids)
    if not ids:
        return caps
    shards = sorted({shard_of(account_id) for account_id in ids})
    for cap in sql.query(Cap, "caps_of_accounts", shards=shards, account_ids=ids):
        caps[cap.account_id].append(cap)
    return caps


def give_back(holds: Sequence[EndedHold], *, counts: Counts, caps: Mapping[int, list[Cap]]) -> None:
    """Take holds off the limits on which they counted."""
    for hold in holds:
        for cap in caps.get(hold.account_id, ()):
            if cap.id in hold.limit_ids and cap.period != "run":
                value = cap.value_of(vars(hold))
                assert value is not None
                counter = (cap.id, value, cap.period_start(hold.held_at))
                counts.hold(counter, -cap.amount(hold.microtokens, hold.micros))


def give_back_now(holds: Sequence[EndedHold]) -> None:
    """`give_back`, reading the limits and writing the counts."""
    limited = [hold for hold in holds if hold.limit_ids]
    if not limited:
        return
    counts = Counts()
    give_back(limited, counts=counts, caps=caps_of({hold.account_id for hold in limited}))
    counts.write()


@dataclass(frozen=True, kw_only=True)
class _CountRow:
    limit_id: int
    scope_value: str
    period_start: datetime
    used: int
    held: int


def _columns(counters: Sequence[Counter]) -> dict[str, list[int] | list[str] | list[datetime]]:
    return {
        "limit_ids": [limit_id for limit_id, _, _ in counters],
        "scope_values": [value for _, value, _ in counters],
        "period_starts": [start for _, _, start in counters],
    }
