"""Which lot serves a run first, and for how long: cases, one rule each."""

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.drawdown import KINDS, LotState, draw, draw_down_order, lots_in_use
from tests.ledger.columns import ENDLESS, debt_lot, in_columns, lot


@pytest.mark.parametrize(
    ("first", "then"),
    [
        pytest.param(
            {"priority": 0, "expires_at_us": 90}, {"expires_at_us": 10}, id="priority before expiry"
        ),
        pytest.param(
            {"expires_at_us": 40, "price_micros": 7}, {"price_micros": 0}, id="expiry before price"
        ),
        pytest.param({}, {"expires_at_us": ENDLESS}, id="what never expires comes last"),
        pytest.param({"issued_at_us": 9}, {"price_micros": 1}, id="free before paid, not older"),
        pytest.param({"issued_at_us": 4}, {}, id="the older before the newer"),
        pytest.param(
            {"priority": 9, "price_micros": 9},
            {"kind": "overage", "priority": 0},
            id="prepaid before overage",
        ),
        pytest.param(
            {"kind": "overage", "expires_at_us": 90},
            {"kind": "debt", "expires_at_us": 10},
            id="overage before debt",
        ),
    ],
)
def test_of_two_lots_one_comes_first(first, then) -> None:
    # Whichever was made first: only where all else is equal does that decide.
    for numbers in ((1, 2), (2, 1)):
        lots = [lot(numbers[0], **first), lot(numbers[1], **then)]
        assert draw_down_order(lots) == draw_down_order(lots[::-1]) == lots


def test_of_lots_that_are_alike_the_first_made_comes_first() -> None:
    lots = [lot(number) for number in (1, 2, 3)]
    assert all(draw_down_order(some) == lots for some in permutations(lots))


tied = st.integers(0, 1)
alike: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    kind=st.sampled_from(KINDS),
    priority=tied,
    expires_at_us=st.integers(1, 2) | st.just(ENDLESS),
    price_micros=tied,
    issued_at_us=tied,
)


@given(accounts=st.lists(st.lists(alike, min_size=1, max_size=8), min_size=1), data=st.data())
def test_lots_in_columns_have_the_same_order(accounts, data) -> None:
    numbers = iter(data.draw(st.permutations(range(sum(map(len, accounts))))))
    made = [[lot(next(numbers), **facts) for facts in some] for some in accounts]
    columns = in_columns(made)
    assert columns.id.tolist() == [one.id for some in made for one in draw_down_order(some)]
    assert columns.account.tolist() == [place for place, some in enumerate(made) for _ in some]


def in_use(lots: list[LotState], at: int) -> tuple[int, int, int]:
    """The lot that is in use, from when, and until when."""
    columns = in_columns([lots])
    found = lots_in_use(columns, np.array([at]))
    return (
        int(columns.id[found.rows[0]]),
        int(found.from_at_us[0]),
        int(found.until_at_us[0]),
    )


@pytest.mark.parametrize(("at", "served_by"), [(9, 3), (10, 1), (19, 1), (20, 2), (29, 2), (30, 3)])
def test_a_lot_serves_from_its_beginning_until_just_before_its_end(at, served_by) -> None:
    lots = [
        lot(1, effective_at_us=10, expires_at_us=20),
        lot(2, effective_at_us=20, expires_at_us=30),
        debt_lot(3),
    ]
    assert in_use(lots, at)[0] == served_by
    [[taken]] = draw(lots, [(at, 1)])
    assert taken.lot_id == served_by


@pytest.mark.parametrize(
    ("at", "used"),
    [
        (0, (9, -(10**15), 10)),
        (9, (9, -(10**15), 10)),
        (10, (1, 10, 20)),
        (19, (1, 10, 20)),
        (20, (1, 20, 40)),  # where another begins that comes later
        (40, (2, 40, 60)),
        (60, (9, 60, ENDLESS)),
    ],
)
def test_a_lot_is_in_use_until_any_lot_begins_or_ends(at, used) -> None:
    lots = [
        lot(1, effective_at_us=10, expires_at_us=40),
        lot(2, effective_at_us=20, expires_at_us=60),
        lot(3, effective_at_us=15, expires_at_us=30, out_microtokens=10),  # nothing is left
        debt_lot(9),
    ]
    assert in_use(lots, at) == used


def test_runs_lie_end_to_end_over_lots_and_a_lot_that_is_used_up_serves_no_more() -> None:
    lots = [
        lot(1, granted_microtokens=5, price_micros=100),
        lot(2, granted_microtokens=5, expires_at_us=60),
        debt_lot(9),
    ]
    assert [
        [(one.lot_id, one.out_before_microtokens, one.microtokens, one.micros) for one in slices]
        for slices in draw(lots, [(0, 3), (0, 2), (0, 0), (55, 4), (0, 3)])
    ] == [
        [(1, 0, 3, 60)],
        [(1, 3, 2, 40)],
        [],
        [(2, 0, 4, 0)],
        [(2, 4, 1, 0), (9, 0, 2, 0)],
    ]
