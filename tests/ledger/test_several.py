"""Runs of several engines: what each cost, also when corrected, retaken or sent in parts."""

import doctest
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import accounts, corrections, folding, several
from ledger.intake import NewPart
from tests.ledger.builders import HOUR, NOON, Shop, debit, make_lot
from tests.ledger.using import everything, make_shop_of_engines, run_of


@pytest.fixture
def shop(db: None) -> Shop:
    return make_shop_of_engines()


def test_the_examples_are_true() -> None:
    assert doctest.testmod(several).failed == 0


def test_a_run_of_several_engines_is_told_apart_and_counted_once(shop, account_id) -> None:
    make_lot(account_id, 1000, price_micros=1003)
    debit(shop, [run_of({"gpt": 2, "claude": 5}), run_of({"gpt": 3, "claude": 1})])
    debit(shop, [run_of({"gpt": 10})])
    whole = everything(account_id)
    for _ in range(2):
        found = {line.engine: line for line in everything(account_id, by=["engine"])}
        assert {code: (one.runs_count, one.microtokens) for code, one in found.items()} == {
            "": (2, 0),
            "gpt": (1, 15),
            "claude": (0, 6),
        }
        assert sum(one.micros for one in found.values()) == whole[0].micros
        assert found["claude"].micros == 6
        assert everything(account_id) == whole
        folding.fold_all()


def test_a_failed_run_of_several_engines_is_rework_of_each(shop, account_id) -> None:
    debit(shop, [run_of({"gpt": 2, "claude": 5}, outcome="failed", fault="customer")])
    found = {line.engine: line.rework_microtokens for line in everything(account_id, by=["engine"])}
    assert found == {"": 0, "gpt": 2, "claude": 5}


def by_engine(account_id: int) -> dict[str | None, tuple[int, int, int]]:
    """(runs, microtokens, of these rework) by engine, without those of which nothing is left."""
    found = everything(account_id, by=["engine"])
    amounts = {
        line.engine: (line.runs_count, line.microtokens, line.rework_microtokens) for line in found
    }
    return {engine: counted for engine, counted in amounts.items() if any(counted)}


def test_what_a_correction_gives_back_is_taken_from_each_engine(shop, account_id) -> None:
    debit(shop, [run_of({"gpt": 2, "claude": 4}, run_id="a"), run_of({"gpt": 1})])
    before = by_engine(account_id)
    assert before == {"": (1, 0, 0), "gpt": (1, 3, 0), "claude": (0, 4, 0)}
    for key, microtokens, left in (
        ("half", 3, {"gpt": (1, 2, 0), "claude": (0, 2, 0)}),
        ("rest", None, {"gpt": (1, 1, 0)}),
    ):
        corrections.void(
            account=accounts.account(account_id=account_id),
            run_id="a",
            microtokens=microtokens,
            reason="wrong",
            idempotency_key=key,
            at=NOON + 500 * HOUR,
        )
        found = by_engine(account_id)
        assert {engine: found[engine] for engine in left} == left
        assert sum(tokens for _, tokens, _ in found.values()) == sum(
            tokens for _, tokens, _ in left.values()
        )
        folding.fold_all()
        assert by_engine(account_id) == found


def test_a_run_that_was_retaken_is_rework_and_was_not_accepted_first(shop, account_id) -> None:
    debit(shop, [run_of({"gpt": 2, "claude": 4}, run_id="a"), run_of({"gpt": 1})])
    debit(shop, [run_of({"gpt": 3}, retake_of="a")])
    for _ in range(2):
        [line] = everything(account_id)
        assert (line.runs_count, line.retakes_count, line.works_count) == (3, 1, 2)
        assert (line.accepted_first_count, line.rework_microtokens) == (1, 6)
        assert line.accepted_first_share == Fraction(1, 2)
        found = by_engine(account_id)
        assert found["gpt"][1:] == (6, 2)
        assert found["claude"][1:] == (4, 4)
        folding.fold_all()


def test_a_run_in_parts_is_one_run_and_its_parts_are_what_it_cost(shop, account_id) -> None:
    parts = [
        run_of({"gpt": 2, "claude": 4}, run_id="a", part=NewPart(id="1")),
        run_of({"claude": 3}, run_id="a", part=NewPart(id="2", last=True)),
    ]
    for part in parts:
        debit(shop, [part])
    for _ in range(2):
        [line] = everything(account_id)
        assert (line.runs_count, line.microtokens) == (1, 9)
        found = by_engine(account_id)
        assert (found["gpt"][1], found["claude"][1]) == (2, 7)
        folding.fold_all()


@given(total=st.integers(-1000, 1000), weights=st.lists(st.integers(0, 9), min_size=1, max_size=5))
def test_what_is_shared_out_adds_up(total, weights) -> None:
    shares = several.share_out(total, weights)
    assert sum(shares) == total
    assert several.share_out(-total, weights) == [-share for share in shares]
    if sum(weights):
        assert several.share_out(sum(weights), weights) == weights
