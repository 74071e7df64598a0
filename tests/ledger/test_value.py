"""What slices are worth: however a lot is used up, they add up to its price."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ledger.value import (
    Tier,
    prepaid_micros,
    prepaid_micros_of_all,
    prepaid_slice_micros,
    tiered_micros,
    tiered_slice_micros,
)

prices = st.integers(0, 10**15)
pieces = st.lists(st.integers(1, 10**14), min_size=1, max_size=20)


@given(price=prices, pieces=pieces)
def test_however_a_lot_is_used_up_its_slices_add_up_to_its_price(
    price: int, pieces: list[int]
) -> None:
    granted = sum(pieces)
    out = earned = 0
    for piece in pieces:
        earned += prepaid_slice_micros(
            price_micros=price, granted_microtokens=granted, out_before=out, out_after=out + piece
        )
        out += piece
        owed = price * out - earned * granted  # exact, in micros x granted
        assert 0 <= owed < granted, "earned early, or more than a micro late"
    assert earned == price


@given(price=prices, pieces=pieces)
def test_what_comes_back_is_worth_what_it_was_worth(price: int, pieces: list[int]) -> None:
    granted = sum(pieces)
    taken = prepaid_slice_micros(
        price_micros=price, granted_microtokens=granted, out_before=0, out_after=pieces[0]
    )
    returned = prepaid_slice_micros(
        price_micros=price, granted_microtokens=granted, out_before=pieces[0], out_after=0
    )
    assert taken == -returned


def test_a_thousand_runs_of_a_third_of_a_token_add_up_to_what_was_paid() -> None:
    """333,333 or 333,334 microtokens each, out of a lot of 1,000 / 3 tokens for 100.00."""
    slices = [
        prepaid_slice_micros(
            price_micros=100_000_000,
            granted_microtokens=333_333_333,
            out_before=position * 333_333_333 // 1000,
            out_after=(position + 1) * 333_333_333 // 1000,
        )
        for position in range(1000)
    ]
    assert sum(slices) == 100_000_000
    assert set(slices) <= {99_999, 100_000, 100_001}


def test_a_free_lots_slices_are_worth_nothing() -> None:
    assert prepaid_micros(price_micros=0, granted_microtokens=7, out_microtokens=5) == 0


def test_a_price_times_a_position_may_exceed_64_bits() -> None:
    assert (
        prepaid_micros(price_micros=10**15, granted_microtokens=10**15, out_microtokens=10**15 - 1)
        == 10**15 - 1
    )


A_CENT = 10_000
FIRST_250_FREE = (
    Tier(up_to_microtokens=250_000_000, micros_per_token=0),
    Tier(up_to_microtokens=None, micros_per_token=2 * A_CENT),
)


def test_a_tier_ends_with_its_last_token() -> None:
    assert tiered_micros(tiers=FIRST_250_FREE, out_microtokens=250_000_000) == 0
    assert tiered_micros(tiers=FIRST_250_FREE, out_microtokens=251_000_000) == 2 * A_CENT
    assert tiered_micros(tiers=FIRST_250_FREE, out_microtokens=0) == 0


tier_lists = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=0, max_size=4).map(
    lambda steps: [
        Tier(
            up_to_microtokens=1_000_000 * sum(size for size, _ in steps[: place + 1]),
            micros_per_token=price,
        )
        for place, (_, price) in enumerate(steps)
    ]
)


@given(
    tiers=tier_lists,
    last=st.integers(0, 9),
    cuts=st.lists(st.integers(0, 50_000_000), min_size=1, max_size=9).map(sorted),
)
def test_overage_costs_the_same_wherever_it_is_cut(
    tiers: list[Tier], last: int, cuts: list[int]
) -> None:
    tiers = [*tiers, Tier(up_to_microtokens=None, micros_per_token=last)]
    bounds = [0, *cuts]
    slices = [
        tiered_slice_micros(tiers=tiers, out_before=before, out_after=after)
        for before, after in pairwise(bounds)
    ]
    # Token by token, each at the price of the tier it lies in.
    product, left = 0, cuts[-1]
    start = 0
    for tier in tiers:
        size = left if tier.up_to_microtokens is None else tier.up_to_microtokens - start
        product += min(left, size) * tier.micros_per_token
        left -= min(left, size)
        start = tier.up_to_microtokens or 0
    assert sum(slices) == product // 1_000_000


def test_many_at_once_are_worth_what_each_is_worth() -> None:
    """Large ones, where a float alone would be off by one now and then; and all the small ones."""
    numbers = np.random.default_rng(1)
    large = numbers.integers(1, 10**15, (3, 10_000), endpoint=True)
    small = np.array([(p, g, out) for p in range(9) for g in range(1, 9) for out in range(9)]).T
    for prices, granted, out in (large, small):
        out = np.minimum(out, granted)
        assert prepaid_micros_of_all(prices, granted, out).tolist() == [
            prepaid_micros(price_micros=price, granted_microtokens=whole, out_microtokens=first)
            for price, whole, first in zip(
                prices.tolist(), granted.tolist(), out.tolist(), strict=True
            )
        ]
