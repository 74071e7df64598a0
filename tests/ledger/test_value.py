"""What slices are worth: however a lot is used up, they add up to its price."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.value import (
    Package,
    Tier,
    Tiers,
    packages_begun,
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
FREE, DEAR = 250_000_000, 2 * A_CENT
STEPS = (
    Tier(up_to_microtokens=FREE, micros_per_token=0),
    Tier(up_to_microtokens=None, micros_per_token=DEAR),
)
FALLING = (
    Tier(up_to_microtokens=100_000_000, micros_per_token=10 * A_CENT),
    Tier(up_to_microtokens=200_000_000, micros_per_token=5 * A_CENT),
    Tier(up_to_microtokens=None, micros_per_token=A_CENT),
)
PACKAGE = Tiers(model="package", package=Package(microtokens=100_000_000, micros=7 * A_CENT))
TOKEN = 1_000_000


@pytest.mark.parametrize(
    ("tiers", "worth"),
    [
        (Tiers(steps=STEPS), {0: 0, FREE - 1: 0, FREE: 0, FREE + 1: 0, FREE + TOKEN: DEAR}),
        (
            Tiers(model="volume", steps=FALLING),
            {
                0: 0,
                99 * TOKEN: 990 * A_CENT,
                100 * TOKEN - 1: 1000 * A_CENT - 1,
                100 * TOKEN: 1000 * A_CENT,
                100 * TOKEN + 1: 500 * A_CENT,
                101 * TOKEN: 505 * A_CENT,
                200 * TOKEN: 1000 * A_CENT,
                200 * TOKEN + 1: 200 * A_CENT,
                201 * TOKEN: 201 * A_CENT,
            },
        ),
        (
            PACKAGE,
            {
                0: 0,
                1: 7 * A_CENT,
                99 * TOKEN: 7 * A_CENT,
                100 * TOKEN - 1: 7 * A_CENT,
                100 * TOKEN: 7 * A_CENT,
                100 * TOKEN + 1: 14 * A_CENT,
                101 * TOKEN: 14 * A_CENT,
            },
        ),
    ],
)
def test_each_model_at_its_bounds_to_the_microtoken(tiers: Tiers, worth: dict[int, int]) -> None:
    assert {out: tiered_micros(tiers=tiers, out_microtokens=out) for out in worth} == worth


tier_lists = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=0, max_size=4).map(
    lambda steps: [
        Tier(
            up_to_microtokens=1_000_000 * sum(size for size, _ in steps[: place + 1]),
            micros_per_token=price,
        )
        for place, (_, price) in enumerate(steps)
    ]
)
cuts = st.lists(st.integers(0, 50_000_000), min_size=1, max_size=9).map(sorted)


def worth_of_slices(tiers: Tiers, cuts: list[int]) -> int:
    return sum(
        tiered_slice_micros(tiers=tiers, out_before=before, out_after=after)
        for before, after in pairwise([0, *cuts])
    )


@given(steps=tier_lists, last=st.integers(0, 9), cuts=cuts)
def test_graduated_overage_costs_the_same_wherever_it_is_cut(
    steps: list[Tier], last: int, cuts: list[int]
) -> None:
    steps = [*steps, Tier(up_to_microtokens=None, micros_per_token=last)]
    # Token by token, each at the price of the tier it lies in.
    product, left = 0, cuts[-1]
    start = 0
    for tier in steps:
        size = left if tier.up_to_microtokens is None else tier.up_to_microtokens - start
        product += min(left, size) * tier.micros_per_token
        left -= min(left, size)
        start = tier.up_to_microtokens or 0
    assert worth_of_slices(Tiers(steps=tuple(steps)), cuts) == product // 1_000_000


@given(steps=tier_lists, last=st.integers(0, 9), cuts=cuts)
def test_overage_by_volume_is_all_at_the_price_that_its_total_reaches(
    steps: list[Tier], last: int, cuts: list[int]
) -> None:
    prices = [step.micros_per_token for step in steps if (step.up_to_microtokens or 0) >= cuts[-1]]
    tiers = Tiers(
        model="volume", steps=(*steps, Tier(up_to_microtokens=None, micros_per_token=last))
    )
    assert worth_of_slices(tiers, cuts) == cuts[-1] * [*prices, last][0] // 1_000_000


@given(size=st.integers(1, 20_000_000), price=st.integers(0, 9), cuts=cuts)
def test_packages_cost_as_often_as_one_is_begun(size: int, price: int, cuts: list[int]) -> None:
    package = Package(microtokens=size, micros=price)
    tiers = Tiers(model="package", package=package)
    begun = len(range(0, cuts[-1], size))
    assert packages_begun(package=package, out_microtokens=cuts[-1]) == begun
    assert worth_of_slices(tiers, cuts) == begun * price


@pytest.mark.parametrize("tiers", [Tiers(steps=STEPS), Tiers(model="volume", steps=STEPS), PACKAGE])
def test_tiers_are_read_as_they_were_written(tiers: Tiers) -> None:
    assert Tiers.of_json(json.dumps(tiers.written())) == tiers


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
