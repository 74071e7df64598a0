"""What runs would be drawn from if they came now, after what is held already."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ledger import queries
from ledger.counting import Count
from ledger.drawdown import LotState, Slice, draw
from ledger.instants import to_us
from ledger.models import Standing
from ledger.queries import LotNow
from ledger.units import NEVER, shard_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Of an ask: in money, and how much of it is overage, beside what is overage already."""

    micros: int
    overage: Count  # what was used of it, and what holds would use
    asked_overage: int


NO_COST: Final = Cost(micros=0, overage=Count(), asked_overage=0)


def cost(lots: Sequence[LotNow], held: int, asked: int, *, at: datetime) -> Cost:
    """Never less than nothing: that it would make others cheaper is seen when it is used."""
    of_held, of_asked = _drawn(lots, [held, asked], at=at)
    return Cost(
        micros=max(0, sum(one.micros for one in of_asked)),
        overage=Count(used=_overage_used(lots, at=at), held=_overage_in(of_held, lots)),
        asked_overage=_overage_in(of_asked, lots),
    )


def overage_now(account_id: int, *, at: datetime) -> Count:
    """What the account uses of the overage that runs may use now, and what its holds would."""
    lots = queries.lots(account_ids=[account_id])
    standing = Standing.objects.get(shard=shard_of(account_id), account_id=account_id)
    [held] = _drawn(lots, [standing.held_microtokens], at=at)
    return Count(used=_overage_used(lots, at=at), held=_overage_in(held, lots))


def _drawn(lots: Sequence[LotNow], amounts: Sequence[int], *, at: datetime) -> list[list[Slice]]:
    at_us = to_us(at)
    return draw([_state(lot) for lot in lots], [(at_us, amount) for amount in amounts])


def _overage_used(lots: Sequence[LotNow], *, at: datetime) -> int:
    return sum(lot.out_microtokens for lot in lots if lot.kind == "overage" and lot.serves(at))


def _overage_in(slices: Sequence[Slice], lots: Sequence[LotNow]) -> int:
    overage = {lot.id for lot in lots if lot.kind == "overage"}
    return sum(one.microtokens for one in slices if one.lot_id in overage)


def _state(lot: LotNow) -> LotState:
    return LotState(
        id=lot.id,
        kind=lot.kind,
        priority=lot.priority,
        effective_at_us=to_us(lot.effective_at),
        expires_at_us=to_us(NEVER if lot.expires_at is None else lot.expires_at),
        price_micros=lot.price_micros,
        tiers=lot.tiers,
        issued_at_us=to_us(lot.issued_at),
        granted_microtokens=lot.granted_microtokens,
        out_microtokens=lot.out_microtokens,
    )
