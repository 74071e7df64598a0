"""Lots of tests, one by one and in columns."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ledger.drawdown import BY_TIERS, Lots, LotState
from ledger.instants import to_us
from ledger.units import NEVER

ENDLESS = to_us(NEVER)


def lot(number: int, **changed: Any) -> LotState:
    facts: dict[str, Any] = {
        "kind": "prepaid",
        "priority": 1,
        "effective_at_us": 0,
        "expires_at_us": 50,
        "price_micros": 0,
        "tiers": None,
        "issued_at_us": 5,
        "granted_microtokens": 10,
        "out_microtokens": 0,
    }
    return LotState(id=number, **facts | changed)


def debt_lot(number: int, **changed: Any) -> LotState:
    facts = {"kind": "debt", "expires_at_us": ENDLESS, "granted_microtokens": 4 * 10**18}
    return lot(number, **{"effective_at_us": -(10**15), **facts, **changed})


def in_columns(accounts: Sequence[Sequence[LotState]]) -> Lots:
    """The lots of several accounts, ready to be drawn down."""
    places = [place for place, lots in enumerate(accounts) for _ in lots]
    lots = [one for lots in accounts for one in lots]
    names = (
        "id", "kind_rank", "priority", "effective_at_us", "expires_at_us", "issued_at_us",
        "granted_microtokens", "out_microtokens",
    )  # fmt: skip
    prices = [one.price_micros if one.tiers is None else BY_TIERS for one in lots]
    return Lots(
        account=np.array(places, np.int64),
        price_micros=np.array(prices, np.int64),
        **{name: np.array([getattr(one, name) for one in lots], np.int64) for name in names},
    ).in_draw_down_order()
