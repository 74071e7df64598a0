"""Statements of an account, and its balance as of any time.

What a statement says of an instant is what was *recorded* before it: a run that came late stands
on the statement of the day it was debited, and a statement that was once given never changes.

    opening balance  +  what moved in [from_at, until_at)  =  closing balance

holds for every lot and so for their sum, and the closing balance of one statement is the opening
balance of the next. Tokens leave a lot that is past its time only when it is closed; until then
they stand on its line, though nobody can spend them: what could be spent at an instant is
`balance_as_of`.

All of it is computed from runs and entries, not from the caches that `ledger.queries` reads; it
reads every run of the account once (two to three million a second).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Final

from ledger import accounts, queries, sql
from ledger.queries import Balance, LotNow
from ledger.units import Microtokens, shard_of

_MOMENT: Final = timedelta(microseconds=1)
_NOTHING: Final = Microtokens(0)

# What each kind of entry is called on a statement, and its sign there: what it adds to what is
# left of a prepaid lot. What is owed in a debt or overage lot goes the other way.
_CALLED: Final[Mapping[str, tuple[str, int]]] = {
    "grant": ("granted_microtokens", 1),
    "debit": ("used_microtokens", -1),
    "return": ("corrected_microtokens", 1),
    "charge": ("corrected_microtokens", -1),
    "expire": ("expired_microtokens", -1),
    "roll_over": ("rolled_over_microtokens", -1),
    "repay": ("repaid_microtokens", -1),
    "repaid": ("repaid_microtokens", 1),
    "freeze": ("frozen_microtokens", -1),
    "thaw": ("frozen_microtokens", 1),
    "revoke": ("revoked_microtokens", -1),
    "restore": ("revoked_microtokens", 1),
    "owe": ("revoked_microtokens", -1),
    "forgive": ("revoked_microtokens", 1),
}


@dataclass(frozen=True, kw_only=True)
class Moved:
    """What changed a balance, each with its sign: together, closing less opening balance.

    `repaid` is what a prepaid lot gave to the debt, or what of the debt was paid; `revoked` what
    was taken out of it because the money went back, or what is owed of that.
    """

    granted_microtokens: Microtokens = _NOTHING
    used_microtokens: Microtokens = _NOTHING
    corrected_microtokens: Microtokens = _NOTHING
    expired_microtokens: Microtokens = _NOTHING
    rolled_over_microtokens: Microtokens = _NOTHING
    repaid_microtokens: Microtokens = _NOTHING
    frozen_microtokens: Microtokens = _NOTHING
    revoked_microtokens: Microtokens = _NOTHING

    @property
    def microtokens(self) -> Microtokens:
        return Microtokens(sum(vars(self).values()))


@dataclass(frozen=True, kw_only=True)
class StatementLine:
    """One lot. Its balance is what is left in it; of debt what is owed, of overage what is billed.

    A rolled-over lot's tokens were `granted` to it when its predecessor's were `rolled_over`.
    """

    lot_id: int
    kind: str
    source: str
    effective_at: datetime
    expires_at: datetime | None
    opening_microtokens: Microtokens
    moved: Moved
    closing_microtokens: Microtokens


@dataclass(frozen=True, kw_only=True)
class Section:
    """All lots of one kind together."""

    kind: str
    opening_microtokens: Microtokens
    moved: Moved
    closing_microtokens: Microtokens


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What became of an account's tokens in [from_at, until_at), by when it was recorded."""

    account_id: int
    from_at: datetime
    until_at: datetime
    lines: tuple[StatementLine, ...]  # in draw-down order; without lots in which nothing was

    def section(self, kind: str) -> Section:
        """The sum of the prepaid, the overage or the debt lots."""
        lines = [line for line in self.lines if line.kind == kind]
        moved = {
            field.name: sum(getattr(line.moved, field.name) for line in lines)
            for field in fields(Moved)
        }
        return Section(
            kind=kind,
            opening_microtokens=Microtokens(sum(line.opening_microtokens for line in lines)),
            moved=Moved(**{name: Microtokens(value) for name, value in moved.items()}),
            closing_microtokens=Microtokens(sum(line.closing_microtokens for line in lines)),
        )


@dataclass(frozen=True, kw_only=True)
class MovedRow:
    """A row of statement.sql."""

    lot_id: int
    kind: str
    before_microtokens: int
    microtokens: int


def statement(*, account_id: int, from_at: datetime, until_at: datetime) -> Statement:
    """What became of an account's tokens in [from_at, until_at). Raises UnknownAccount.

    Reads every run of the account once.
    """
    assert from_at <= until_at
    accounts.account(account_id=account_id)
    by_lot = _moved(account_id, from_at, until_at)
    lines = [
        _line(lot, by_lot[lot.id])
        for lot in queries.lots(account_ids=[account_id])
        if lot.id in by_lot
    ]
    return Statement(
        account_id=account_id,
        from_at=from_at,
        until_at=until_at,
        lines=tuple(line for line in lines if _says_something(line)),
    )


def balance_as_of(*, account_id: int, as_of: datetime) -> Balance:
    """What the account could spend on a run at `as_of`, and what it owed, by what was known then.

    Of the present it is what `queries.balances` says. Reads every run of the account once.
    Raises UnknownAccount.
    """
    accounts.account(account_id=account_id)
    after = as_of + _MOMENT
    by_lot = _moved(account_id, after, after)
    sums: dict[str, int] = defaultdict(int)
    for lot in queries.lots(account_ids=[account_id]):
        if lot.id in by_lot and lot.serves(as_of):  # the debt lot always does
            sums[lot.kind] += _line(lot, by_lot[lot.id]).closing_microtokens
    return Balance(
        available_microtokens=Microtokens(sums["prepaid"]),
        debt_microtokens=Microtokens(sums["debt"]),
        overage_microtokens=Microtokens(sums["overage"]),
    )


def _moved(account_id: int, from_at: datetime, until_at: datetime) -> dict[int, list[MovedRow]]:
    by_lot: dict[int, list[MovedRow]] = defaultdict(list)
    for row in sql.query(
        MovedRow,
        "statement",
        shard=shard_of(account_id),
        account_id=account_id,
        from_at=from_at,
        until_at=until_at,
    ):
        by_lot[row.lot_id].append(row)
    return by_lot


def _line(lot: LotNow, rows: Sequence[MovedRow]) -> StatementLine:
    before = _signed(lot.kind, ((row.kind, row.before_microtokens) for row in rows))
    moved = _signed(lot.kind, ((row.kind, row.microtokens) for row in rows))
    return StatementLine(
        lot_id=lot.id,
        kind=lot.kind,
        source=lot.source,
        effective_at=lot.effective_at,
        expires_at=lot.expires_at,
        opening_microtokens=before.microtokens,
        moved=moved,
        closing_microtokens=Microtokens(before.microtokens + moved.microtokens),
    )


def _signed(lot_kind: str, amounts: Iterable[tuple[str, int]]) -> Moved:
    # What a run takes lessens what is left of a lot, and adds to what is owed.
    direction = 1 if lot_kind == "prepaid" else -1
    sums: dict[str, int] = defaultdict(int)
    for kind, microtokens in amounts:
        name, sign = _CALLED[kind]
        sums[name] += sign * direction * microtokens
    return Moved(**{name: Microtokens(value) for name, value in sums.items()})


def _says_something(line: StatementLine) -> bool:
    return bool(line.opening_microtokens or any(vars(line.moved).values()))
