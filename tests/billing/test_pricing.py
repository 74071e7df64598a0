from itertools import pairwise

import pytest
from djmoney.money import Money
from hypothesis import given
from hypothesis import strategies as st

from billing import money, pricing
from ledger.units import MICROTOKENS_PER_TOKEN
from ledger.value import Package, Tier, Tiers, prepaid_slice_micros, tiered_micros

TOKEN = MICROTOKENS_PER_TOKEN
FREE_THEN_TWO_CENTS = Tiers(
    steps=(
        Tier(up_to_microtokens=250 * TOKEN, micros_per_token=0),
        Tier(up_to_microtokens=None, micros_per_token=20_000),
    )
)


@pytest.mark.parametrize(
    ("tokens", "amount"), [(0, "0.00"), (249, "0.00"), (250, "0.00"), (251, "0.02"), (300, "1.00")]
)
def test_the_first_token_beyond_a_free_tier_is_the_first_that_costs(tokens, amount):
    slices = pricing.overage_parts(
        tiers=FREE_THEN_TWO_CENTS, from_microtokens=0, to_microtokens=tokens * TOKEN
    )
    exact = sum(part.micros for part in slices)
    assert money.rounded(exact, "EUR") == Money(amount, "EUR")


steps = st.lists(
    st.tuples(st.integers(1, 9), st.integers(0, 9)), max_size=3, unique_by=lambda one: one[0]
).map(
    lambda steps: (
        *(
            Tier(up_to_microtokens=bound, micros_per_token=micros)
            for bound, micros in sorted(steps)
        ),
        Tier(up_to_microtokens=None, micros_per_token=700_001),
    )
)
tiers = st.one_of(
    steps.map(lambda steps: Tiers(steps=steps)),
    steps.map(lambda steps: Tiers(model="volume", steps=steps)),
    st.builds(Package, microtokens=st.integers(1, 9), micros=st.integers(0, 9)).map(
        lambda package: Tiers(model="package", package=package)
    ),
)


@given(tiers, st.lists(st.integers(0, 12), min_size=1, max_size=6))
def test_however_overage_is_cut_into_stretches_its_parts_add_up(tiers, cuts):
    bounds = [0, *sorted(cuts)]
    parts = [
        part
        for start, end in pairwise(bounds)
        for part in pricing.overage_parts(tiers=tiers, from_microtokens=start, to_microtokens=end)
    ]
    assert sum(part.micros for part in parts) == tiered_micros(
        tiers=tiers, out_microtokens=bounds[-1]
    )
    assert sum(part.microtokens for part in parts) == bounds[-1]
    for part in parts:
        assert part.microtokens > 0
        assert tiers.model != "graduated" or not any(
            part.from_microtokens < (step.up_to_microtokens or 0) < part.to_microtokens
            for step in tiers.steps
        )


@pytest.mark.parametrize(
    ("tiers", "tokens"),
    [
        (Tiers(steps=(Tier(up_to_microtokens=None, micros_per_token=1_000_000),)), 10**12),
        (Tiers(steps=(Tier(up_to_microtokens=None, micros_per_token=0),)), 4 * 10**12),
        (Tiers(model="package", package=Package(microtokens=3 * TOKEN, micros=2 * 10**18)), 0),
        (
            Tiers(model="package", package=Package(microtokens=3 * TOKEN, micros=4 * 10**17)),
            6,
        ),
    ],
)
def test_no_more_overage_is_taken_than_an_amount_can_say(tiers, tokens):
    assert pricing.overage_microtokens_max(tiers=tiers) == tokens * TOKEN


def test_100_euros_over_three_cost_centres_add_up_to_100_euros():
    assert pricing.allocate(total=10_000, weights=[1, 1, 1]) == [3_334, 3_333, 3_333]


def test_who_loses_most_by_rounding_down_gets_what_is_left_the_first_of_equals_first():
    assert pricing.allocate(total=1, weights=[1, 3, 6]) == [0, 0, 1]
    assert pricing.allocate(total=2, weights=[1, 1, 1]) == [1, 1, 0]


@given(st.integers(0, 10**12), st.lists(st.integers(0, 9), min_size=1).filter(any))
def test_shares_add_up_and_nobody_gets_more_than_one_unit_beside_their_part(total, weights):
    shares = pricing.allocate(total=total, weights=weights)
    assert sum(shares) == total
    for share, weight in zip(shares, weights, strict=True):
        assert 0 <= share - total * weight // sum(weights) <= 1


def test_a_thousand_debits_of_a_third_of_a_tokens_price_add_up_to_the_lots_price():
    facts = {"price_micros": 333_333_333, "granted_microtokens": 1_000 * TOKEN}
    slices = [
        prepaid_slice_micros(**facts, out_before=number * TOKEN, out_after=(number + 1) * TOKEN)
        for number in range(1_000)
    ]
    assert sum(slices) == 333_333_333
    assert max(slices) - min(slices) <= 1
