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
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ledger.value import Tier, tiered_micros

# Overage comes after every prepaid lot, debt after overage.
KIND_RANK: Final = {"prepaid": 0, "overage": 1, "debt": 2}


@dataclass(kw_only=True, slots=True)
class LotState:
    """A lot, and how much of it has left so far: `draw` moves `out_microtokens` on."""

    id: int
    kind: str
    priority: int
    effective_at_us: int
    expires_at_us: int
    price_micros: int
    tiers: tuple[Tier, ...] | None
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
    def is_paid(self) -> bool:
        return self.price_micros > 0

    @property
    def remaining_microtokens(self) -> int:
        return self.granted_microtokens - self.out_microtokens

    def serves(self, occurred_at_us: int) -> bool:
        return self.effective_at_us <= occurred_at_us < self.expires_at_us


class Slice(NamedTuple):
    """A stretch of one lot that one run took."""

    lot_id: int
    out_before_microtokens: int
    microtokens: int
    micros: int


@dataclass(frozen=True, kw_only=True)
class LotInUse:
    """The one lot that serves every run in [from, until), as long as something is left."""

    lot: LotState
    from_at_us: int
    until_at_us: int


def draw_down_order(lots: Iterable[LotState]) -> list[LotState]:
    """Priority, soonest expiry, free before paid, oldest, id; overage and debt come last."""
    return sorted(
        lots,
        key=lambda lot: (
            KIND_RANK[lot.kind],
            lot.priority,
            lot.expires_at_us,
            lot.is_paid,
            lot.issued_at_us,
            lot.id,
        ),
    )


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


def lot_in_use(lots: Iterable[LotState], at_us: int) -> LotInUse:
    """The first lot that serves `at_us`, and the interval in which it goes on being the first.

    No other lot begins or ends in that interval, so the set of lots that serve is the same all
    through it.
    """
    open_lots = [lot for lot in lots if lot.remaining_microtokens > 0]
    boundaries = {
        instant for lot in open_lots for instant in (lot.effective_at_us, lot.expires_at_us)
    }
    first = next(lot for lot in draw_down_order(open_lots) if lot.serves(at_us))
    return LotInUse(
        lot=first,
        from_at_us=max(instant for instant in boundaries if instant <= at_us),
        until_at_us=min(instant for instant in boundaries if instant > at_us),
    )
