"""Runs laid over lots: the one order, the one arithmetic.

Lay an account's lots end to end in draw-down order, and its runs end to end in order of arrival.
Where a run lies over a lot is a slice:

    lots      |------ lot 7 ------|---- lot 9 ----|------ overage ... debt ...
    runs      |-- a --|------- b -------|------ c ------|
    slices    |   1   |     2     |  3  |   4     |  5  |

A lot serves a run only if the run's own time lies in the lot's life, [effective_at, expires_at).
Overage and debt are lots like any other, after all prepaid ones; the debt lot has no end, so
every run finds its tokens and none is refused.

Instants are whole microseconds since 1970, so that the fast path can compare them in bulk.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ledger.packing import Integers
from ledger.value import Tiers, tiered_micros

# Overage comes after every prepaid lot, debt after overage.
KINDS: Final = ("prepaid", "overage", "debt")
# What stands for the price of a lot that is worth what its tiers say.
BY_TIERS: Final = -1
# In which order lots are drawn down, whether they stand one by one or in columns: by kind,
# priority, soonest expiry, free before paid, oldest, id.
_ORDER: Final = attrgetter(
    "kind_rank",
    "priority",
    "expires_at_us",
    "is_paid",
    "issued_at_us",
    "id",
)


@dataclass(kw_only=True, slots=True)
class LotState:
    """A lot, and how much of it has left so far: `draw` moves `out_microtokens` on."""

    id: int
    kind: str
    priority: int
    effective_at_us: int
    expires_at_us: int
    price_micros: int
    tiers: Tiers | None
    issued_at_us: int
    granted_microtokens: int
    out_microtokens: int
    worth_micros: int = field(init=False)  # of what has left it so far

    def __post_init__(self) -> None:
        self.worth_micros = self._worth(self.out_microtokens)

    def move_to(self, out_microtokens: int) -> int:
        """Let tokens leave it up to this position; what they are worth, in micros."""
        before = self.worth_micros
        self.out_microtokens = out_microtokens
        self.worth_micros = self._worth(out_microtokens)
        return self.worth_micros - before

    def _worth(self, out_microtokens: int) -> int:
        if self.tiers is not None:
            return tiered_micros(tiers=self.tiers, out_microtokens=out_microtokens)
        # Debt has no price.
        return self.price_micros * out_microtokens // self.granted_microtokens

    @property
    def kind_rank(self) -> int:
        return KINDS.index(self.kind)

    @property
    def is_paid(self) -> bool:
        return self.price_micros > 0

    @property
    def remaining_microtokens(self) -> int:
        return self.granted_microtokens - self.out_microtokens


class Slice(NamedTuple):
    """A stretch of one lot that one run took."""

    lot_id: int
    out_before_microtokens: int
    microtokens: int
    micros: int


@dataclass(frozen=True, kw_only=True)
class Lots:
    """Lots of several accounts in columns: account after account, each with one lot at least."""

    account: Integers  # its place among these accounts
    id: Integers
    kind_rank: Integers
    priority: Integers
    effective_at_us: Integers
    expires_at_us: Integers
    price_micros: Integers  # or BY_TIERS
    issued_at_us: Integers
    granted_microtokens: Integers
    out_microtokens: Integers

    @property
    def is_paid(self) -> npt.NDArray[np.bool_]:
        return self.price_micros > 0

    @property
    def remaining_microtokens(self) -> Integers:
        return self.granted_microtokens - self.out_microtokens

    def in_draw_down_order(self) -> "Lots":
        """Account after account, each account's as `draw_down_order` has them."""
        return self.pick(np.lexsort((*reversed(_ORDER(self)), self.account)))

    def pick(self, rows: npt.NDArray[Any]) -> "Lots":
        """These rows, in this order."""
        return Lots(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def of(self, account: int) -> range:
        """The rows of one account."""
        begin, end = np.searchsorted(self.account, (account, account + 1)).tolist()
        return range(begin, end)

    def state(self, row: int, tiers: Tiers | None) -> LotState:
        """The lot of one row, with its tiers if it is priced by them."""
        return LotState(
            id=int(self.id[row]),
            kind=KINDS[self.kind_rank[row]],
            priority=int(self.priority[row]),
            effective_at_us=int(self.effective_at_us[row]),
            expires_at_us=int(self.expires_at_us[row]),
            price_micros=int(self.price_micros[row]) if tiers is None else 0,
            tiers=tiers,
            issued_at_us=int(self.issued_at_us[row]),
            granted_microtokens=int(self.granted_microtokens[row]),
            out_microtokens=int(self.out_microtokens[row]),
        )


@dataclass(frozen=True, kw_only=True)
class InUse:
    """For each account the one lot, by its row, that serves every run in [from, until), as long as
    something is left of it."""

    rows: Integers
    from_at_us: Integers
    until_at_us: Integers


def draw_down_order(lots: Iterable[LotState]) -> list[LotState]:
    """The order in which tokens leave the lots of an account."""
    return sorted(lots, key=_ORDER)


def draw(lots: Iterable[LotState], runs: Sequence[tuple[int, int]]) -> list[list[Slice]]:
    """Lay runs, (occurred_at_us, microtokens) in order of arrival, over an account's lots.

    Returns each run's slices, in draw-down order; a run that cost nothing has none. The lots
    must include one without an end (the account's debt lot).
    """
    ordered = [lot for lot in draw_down_order(lots) if lot.remaining_microtokens > 0]
    return [_draw_one(ordered, occurred_at_us, wanted) for occurred_at_us, wanted in runs]


def _draw_one(ordered: list[LotState], occurred_at_us: int, wanted: int) -> list[Slice]:
    slices: list[Slice] = []
    position = 0
    while wanted > 0:
        lot = ordered[position]
        if not lot.effective_at_us <= occurred_at_us < lot.expires_at_us:
            position += 1
            continue
        left = lot.granted_microtokens - lot.out_microtokens
        taken = wanted if wanted < left else left
        out_before = lot.out_microtokens
        micros = lot.move_to(out_before + taken)
        slices.append(Slice(lot.id, out_before, taken, micros))
        wanted -= taken
        if taken == left:
            del ordered[position]
    return slices


def lots_in_use(lots: Lots, at_us: Integers) -> InUse:
    """Of lots in draw-down order, each account's first that serves at its `at_us`.

    No other lot begins or ends in the interval in which it goes on being the first, so the set of
    lots that serve is the same all through it.
    """
    is_open = lots.remaining_microtokens > 0
    at = at_us[lots.account]
    begins, ends = lots.effective_at_us, lots.expires_at_us
    serving = np.flatnonzero(is_open & (begins <= at) & (at < ends))
    rows = serving[np.diff(lots.account[serving], prepend=-1) > 0]
    assert len(rows) == len(at_us), "an account's debt lot serves at any time"
    first_rows = np.searchsorted(lots.account, np.arange(len(at_us)))
    before = [np.where(is_open & (instant <= at), instant, _LONG_AGO) for instant in (begins, ends)]
    after = [np.where(is_open & (instant > at), instant, _FAR_OFF) for instant in (begins, ends)]
    return InUse(
        rows=rows,
        from_at_us=np.maximum.reduceat(np.maximum(*before), first_rows),
        until_at_us=np.minimum.reduceat(np.minimum(*after), first_rows),
    )


_LONG_AGO: Final = np.iinfo(np.int64).min
_FAR_OFF: Final = np.iinfo(np.int64).max
