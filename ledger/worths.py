"""What lots have earned and still owe, in money.

Of a prepaid lot that was paid for,

    price  =  used  +  expired  +  rolled over  +  revoked  +  deferred

to the micro and at every moment: the worth of a lot's slices telescopes (ledger.value). What was
used is not added up run by run. It is the worth of what is out of the lot, less what its few other
entries took: so it costs the same whether a day had ten runs or ten million.

Deferred is what is left, and what is frozen: it may yet be used. Tokens that repaid a debt were
used, though late. Of an overage lot, `used` is what it comes to.

As lots stand is as of now. What they had earned at the end of a day that is long over takes the
runs since (`UsedByDay`), which reads every run of the accounts once.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import islice
from typing import Final

from ledger import sql
from ledger.units import NEVER, Micros, Microtokens, shard_of
from ledger.value import Tiers, prepaid_micros, tiered_micros

ACCOUNTS_PER_PAGE: Final = 2_000
# What entries do with tokens. Of another kind it has to be said here what it is in money.
_OF_USE: Final = frozenset({"repay", "repaid", "return", "charge"})
_KNOWN: Final = _OF_USE | {"expire", "roll_over", "revoke", "restore", "freeze", "thaw"}


@dataclass(frozen=True, kw_only=True, slots=True)
class LotWorth:
    """One lot in money. An overage lot has no price: what it comes to is `used_micros`."""

    lot_id: int
    account_id: int
    kind: str
    currency: str
    effective_at: datetime
    rolled_from_lot_id: int | None
    price_micros: Micros
    out_microtokens: Microtokens
    used_micros: Micros
    expired_micros: Micros
    rolled_micros: Micros
    revoked_micros: Micros
    frozen_micros: Micros


@dataclass(frozen=True, kw_only=True, slots=True)
class LotRow:
    """A row of lots_with_money.sql."""

    lot_id: int
    account_id: int
    kind: str
    currency: str
    effective_at: datetime
    granted_microtokens: int
    price_micros: int
    tiers: str | None
    rolled_from_lot_id: int | None
    out_microtokens: int
    moved_microtokens: int
    expired_micros: int
    rolled_micros: int
    revoked_micros: int
    frozen_micros: int
    kinds: list[str]


@dataclass(kw_only=True)
class UsedByDay:
    """What runs took of lots, day by day (UTC), as far as it is known now: from each run's time."""

    by_day: Mapping[date, Sequence[tuple[int, int]]]
    until: date = date.min
    microtokens: dict[int, int] = field(default_factory=lambda: defaultdict(int))

    @staticmethod
    def read(*, account_ids: Sequence[int], until_at: datetime) -> "UsedByDay":
        """Reads every run of these accounts once."""
        by_day: dict[date, list[tuple[int, int]]] = defaultdict(list)
        for page in _pages(account_ids):
            for day, lot_id, microtokens in sql.rows(
                "used_by_day", shards=_shards(page), account_ids=page, until_at=until_at
            ):
                by_day[day].append((lot_id, microtokens))
        return UsedByDay(by_day=by_day)

    def through(self, day: date) -> Mapping[int, int]:
        """Of each lot what runs took of it up to and with this day. Days are asked for in order."""
        assert day >= self.until
        for one in sorted(one for one in self.by_day if self.until < one <= day):
            for lot_id, microtokens in self.by_day[one]:
                self.microtokens[lot_id] += microtokens
        self.until = day
        return self.microtokens


def worths(
    *,
    account_ids: Sequence[int],
    until_at: datetime | None = None,
    used: Mapping[int, int] | None = None,
) -> Iterator[LotWorth]:
    """The lots of these accounts that have money in them, page by page.

    As they stand; with `until_at`, as they stood then, `used` being what runs had taken of them by
    then (`UsedByDay`).
    """
    assert (until_at is None) == (used is None)
    for page in _pages(account_ids):
        for row in sql.query(
            LotRow,
            "lots_with_money",
            shards=_shards(page),
            account_ids=page,
            until_at=until_at or NEVER,
        ):
            yield _worth(row, used)


def _worth(row: LotRow, used: Mapping[int, int] | None) -> LotWorth:
    assert _KNOWN.issuperset(row.kinds), f"what are entries of these kinds in money? {row.kinds}"
    out = row.out_microtokens
    if used is not None:
        out = max(0, min(used.get(row.lot_id, 0) + row.moved_microtokens, row.granted_microtokens))
    worth = _micros(row, out)
    return LotWorth(
        lot_id=row.lot_id,
        account_id=row.account_id,
        kind=row.kind,
        currency=row.currency,
        effective_at=row.effective_at,
        rolled_from_lot_id=row.rolled_from_lot_id,
        price_micros=Micros(row.price_micros),
        out_microtokens=Microtokens(out),
        used_micros=Micros(
            worth - row.expired_micros - row.rolled_micros - row.revoked_micros - row.frozen_micros
        ),
        expired_micros=Micros(row.expired_micros),
        rolled_micros=Micros(row.rolled_micros),
        revoked_micros=Micros(row.revoked_micros),
        frozen_micros=Micros(row.frozen_micros),
    )


def _micros(row: LotRow, out: int) -> int:
    if row.tiers is not None:
        return tiered_micros(tiers=Tiers.of_json(row.tiers), out_microtokens=out)
    return prepaid_micros(
        price_micros=row.price_micros,
        granted_microtokens=row.granted_microtokens,
        out_microtokens=out,
    )


def _pages(account_ids: Iterable[int]) -> Iterator[list[int]]:
    rest = iter(account_ids)
    while page := list(islice(rest, ACCOUNTS_PER_PAGE)):
        yield page


def _shards(account_ids: Sequence[int]) -> list[int]:
    return sorted({shard_of(one) for one in account_ids})
