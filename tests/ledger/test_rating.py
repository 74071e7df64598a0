"""Quantities times rates: the rules as tables, the arithmetic as properties."""

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from math import ceil, floor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.rating import Priced, Rate, RateCard, Unpriced, Usage, Version, formulas, price

TOKEN = 1_000_000
Rates = Mapping[Any, Rate]  # of RateKey, which a literal dictionary is too narrow for


def card(*versions: tuple[int, Rates], parts=None) -> RateCard:
    return RateCard(
        versions=[
            Version(id=number, effective_at_us=begins, rates=rates)
            for number, (begins, rates) in enumerate(versions, 1)
        ],
        parts={} if parts is None else parts,
    )


def cost(rates: Rates, quantities: dict[str, int], *, parts=None, engine="gpt") -> int:
    priced = price(card((0, rates), parts=parts), "review", [Usage(engine, 0, quantities)])
    assert isinstance(priced, Priced), priced
    return priced.microtokens


def test_one_token_is_one_workflow_execution() -> None:
    assert cost({("executions", None, ""): Rate(microtokens=TOKEN)}, {"executions": 3}) == 3 * TOKEN


def test_one_token_is_a_thousand_rows_analysed() -> None:
    rates = {("rows", None, ""): Rate(microtokens=TOKEN, per_quantity=1_000)}
    assert cost(rates, {"rows": 2_500}) == 2_500_000
    by_block = {
        ("rows", None, ""): Rate(microtokens=TOKEN, per_quantity=1_000, block_quantity=1_000)
    }
    assert cost(by_block, {"rows": 2_500}) == 3 * TOKEN
    assert cost(by_block, {"rows": 2_000}) == 2 * TOKEN
    assert cost(by_block, {"rows": 0}) == 0


def test_one_token_is_a_thousand_model_tokens_of_one_engine() -> None:
    rates = {
        ("input_tokens", "large", ""): Rate(microtokens=TOKEN, per_quantity=1_000),
        ("input_tokens", None, ""): Rate(microtokens=TOKEN, per_quantity=10_000),
    }
    assert cost(rates, {"input_tokens": 5_000}, engine="large") == 5 * TOKEN
    assert cost(rates, {"input_tokens": 5_000}, engine="small") == TOKEN // 2


SPECIFIC = {
    ("rows", "gpt", "review"): Rate(microtokens=1),
    ("rows", None, "review"): Rate(microtokens=2),
    ("rows", "gpt", ""): Rate(microtokens=3),
    ("rows", None, ""): Rate(microtokens=4),
}


@pytest.mark.parametrize("missing", range(4))
def test_the_most_specific_rate_wins(missing: int) -> None:
    rates = dict(list(SPECIFIC.items())[missing:])
    assert cost(rates, {"rows": 1}) == missing + 1


def test_a_rate_of_another_workflow_or_engine_does_not_count() -> None:
    rates = {
        ("rows", "other", ""): Rate(microtokens=1),
        ("rows", None, "other"): Rate(microtokens=1),
    }
    assert price(card((0, rates)), "review", [Usage("gpt", 0, {"rows": 1})]) == Unpriced(
        "no rate for meter 'rows' and engine 'gpt' in workflow 'review'"
    )


CACHED = {"input_tokens": ["cached_input_tokens"]}
INPUT, CACHE = Rate(microtokens=10), Rate(microtokens=1)


def test_cached_tokens_are_paid_once() -> None:
    used = {"input_tokens": 62_394, "cached_input_tokens": 60_024}
    rates = {("input_tokens", None, ""): INPUT, ("cached_input_tokens", None, ""): CACHE}
    assert cost(rates, used, parts=CACHED) == 2_370 * 10 + 60_024 * 1
    del rates["cached_input_tokens", None, ""]
    assert cost(rates, used, parts=CACHED) == 62_394 * 10


NESTED = {"tokens": ["input_tokens"], "input_tokens": ["cached_input_tokens"]}


def test_parts_of_parts_are_paid_once() -> None:
    used = {"tokens": 100, "input_tokens": 80, "cached_input_tokens": 50}
    every = Rate(microtokens=100)
    outer = {("tokens", None, ""): every}
    cached = {("cached_input_tokens", None, ""): CACHE}
    middle = {("input_tokens", None, ""): INPUT}
    assert cost(outer, used, parts=NESTED) == 100 * 100
    assert cost(outer | cached, used, parts=NESTED) == 50 * 100 + 50 * 1
    assert cost(outer | middle, used, parts=NESTED) == 20 * 100 + 80 * 10
    assert cost(outer | middle | cached, used, parts=NESTED) == 20 * 100 + 30 * 10 + 50 * 1


@pytest.mark.parametrize("rated", ["cached_input_tokens", "input_tokens"])
def test_a_whole_without_a_rate_is_not_paid_by_its_parts(rated: str) -> None:
    used = {"tokens": 100, "input_tokens": 80, "cached_input_tokens": 50}
    found = price(card((0, {(rated, None, ""): CACHE}), parts=NESTED), "", [Usage("gpt", 0, used)])
    assert isinstance(found, Unpriced)


@pytest.mark.parametrize(
    ("prompt_tokens", "microtokens"), [(199_999, 199_999), (200_000, 200_000), (200_001, 400_002)]
)
def test_a_long_context_has_an_engine_of_its_own(prompt_tokens: int, microtokens: int) -> None:
    """Whoever reports a run says which of a model's two prices its vendor asked."""
    rates = {
        ("input_tokens", "large", ""): Rate(microtokens=1),
        ("input_tokens", "large-long-context", ""): Rate(microtokens=2),
    }
    engine = "large-long-context" if prompt_tokens > 200_000 else "large"
    assert cost(rates, {"input_tokens": prompt_tokens}, engine=engine) == microtokens


def test_zero_is_not_missing_and_missing_is_not_zero() -> None:
    free = {("rows", None, ""): Rate(microtokens=0), ("pages", None, ""): Rate(microtokens=5)}
    assert cost(free, {"rows": 10}) == 0
    assert cost(free, {"rows": 0, "pages": 0}) == 0
    missing = price(card((0, free)), "", [Usage("gpt", 0, {"seconds": 0})])
    assert missing == Unpriced("no rate for meter 'seconds' and engine 'gpt' in workflow ''")


def test_each_inference_takes_the_rate_in_force_at_its_own_time() -> None:
    midnight = 1_000
    versions = card(
        (0, {("rows", None, ""): Rate(microtokens=1)}),
        (midnight, {("rows", None, ""): Rate(microtokens=2)}),
    )
    usages = [Usage("gpt", at, {"rows": 10}) for at in (midnight - 1, midnight, midnight + 1)]
    assert price(versions, "", usages) == Priced(50, [10, 20, 20], [1, 2, 2])


def test_before_the_first_version_nothing_has_a_price() -> None:
    versions = card((10, {("rows", None, ""): Rate(microtokens=1)}))
    assert price(versions, "", [Usage("gpt", 9, {"rows": 1})]) == Unpriced(
        "no rate card version was in force at the inference's time"
    )
    assert isinstance(price(versions, "", [Usage("gpt", 10, {"rows": 1})]), Priced)


def test_a_run_pays_a_rates_minimum_once() -> None:
    rates = {("rows", None, ""): Rate(microtokens=1, minimum_microtokens=100)}
    usages = [Usage("gpt", 0, {"rows": 30}) for _ in range(2)]
    assert price(card((0, rates)), "", usages) == Priced(100, [70, 30], [1, 1])
    usages = [Usage("gpt", 0, {"rows": 60}) for _ in range(2)]
    assert price(card((0, rates)), "", usages) == Priced(120, [60, 60], [1, 1])


def test_an_unpriced_inference_leaves_the_whole_run_unpriced() -> None:
    rates = {("rows", None, ""): Rate(microtokens=1)}
    usages = [Usage("gpt", 0, {"rows": 1}), Usage("gpt", 0, {"pages": 1})]
    assert isinstance(price(card((0, rates)), "", usages), Unpriced)


@given(
    quantity=st.integers(0, 10**12),
    microtokens=st.integers(0, 10**9),
    per=st.integers(1, 10**6),
    block=st.integers(1, 1000),
)
def test_a_charge_is_rounded_once_half_up(quantity: int, microtokens: int, per: int, block: int):
    rate = Rate(microtokens=microtokens, per_quantity=per, block_quantity=block)
    exact = Fraction(ceil(Fraction(quantity, block)) * block * microtokens, per)
    assert rate.charge_microtokens(quantity) == floor(exact + Fraction(1, 2))


quantities = st.dictionaries(st.sampled_from("abc"), st.integers(0, 9), min_size=1)


@given(
    inferences=st.lists(st.tuples(st.integers(0, 3), quantities), min_size=1, max_size=4),
    minimum=st.integers(0, 20),
)
def test_a_run_costs_the_sum_of_its_inferences_and_at_least_its_minimum(
    inferences, minimum
) -> None:
    def rates(microtokens: int) -> Rates:
        least = Rate(microtokens=microtokens, minimum_microtokens=minimum)
        return {("a", None, ""): least} | {(meter, None, ""): Rate(microtokens=1) for meter in "bc"}

    usages = [Usage("gpt", at, used) for at, used in inferences]
    priced = price(card((0, rates(2)), (2, rates(3))), "", usages)
    assert isinstance(priced, Priced)
    assert priced.microtokens == sum(priced.inference_microtokens)
    assert all(microtokens >= 0 for microtokens in priced.inference_microtokens)
    if any(used.get("a") for _, used in inferences):
        assert priced.microtokens >= minimum


def test_a_run_over_a_change_of_version_pays_a_minimum_once() -> None:
    rates = {("a", None, ""): Rate(microtokens=1, minimum_microtokens=5)}
    usages = [Usage("gpt", at, {"a": 1}) for at in (0, 3)]
    priced = price(card((0, rates), (2, dict(rates))), "", usages)
    assert isinstance(priced, Priced)
    assert priced.inference_microtokens == [4, 1]


def test_a_meter_that_its_parts_paid_for_whole_pays_no_minimum() -> None:
    versions = (
        0,
        {
            ("input", None, ""): Rate(microtokens=9, minimum_microtokens=8),
            ("cached", None, ""): Rate(microtokens=1),
        },
    )
    parted = replace(card(versions), parts={"input": ["cached"]})
    priced = price(parted, "", [Usage("gpt", 0, {"input": 3, "cached": 3})])
    assert isinstance(priced, Priced)
    assert priced.microtokens == 3


METERS = ("a", "b", "c", "d")
rate_keys = st.tuples(
    st.sampled_from(METERS),
    st.sampled_from((None, "gpt", "other")),
    st.sampled_from(("", "review")),
)
some_rates = st.builds(
    Rate,
    microtokens=st.integers(0, 9),
    per_quantity=st.sampled_from((1, 1, 1, 2, 3, 4)),
    block_quantity=st.sampled_from((1, 1, 1, 2, 3)),
    minimum_microtokens=st.sampled_from((0, 0, 0, 5)),
)


@given(
    tables=st.lists(st.dictionaries(rate_keys, some_rates, max_size=6), min_size=1, max_size=3),
    parts=st.sampled_from(({}, {"a": ["b"]}, {"a": ["b", "c"]}, {"a": ["b"], "b": ["c", "d"]})),
    quantities=st.dictionaries(st.sampled_from(METERS), st.integers(0, 9), min_size=1),
    workflow=st.sampled_from(("review", "another")),
    at=st.integers(0, 4),
)
def test_a_formula_comes_to_what_the_rules_say(tables, parts, quantities, workflow, at) -> None:
    # Every part is within its whole, down to the parts of parts.
    for whole in reversed(parts):
        counted = sum(quantities.get(part, 0) for part in parts[whole])
        if counted:
            quantities[whole] = quantities.get(whole, 0) + counted
    of_card = card(*((2 * number, rates) for number, rates in enumerate(tables)), parts=parts)
    found = [
        formula
        for formula in formulas(of_card, of_card.rated_workflow(workflow), "gpt", list(quantities))
        if formula.begins_at_us <= at < formula.ends_at_us
    ]
    priced = price(of_card, workflow, [Usage("gpt", at, quantities)])
    if found:
        cost = found[0].cost_microtokens(quantities)
        assert priced == Priced(cost, [cost], [found[0].version_id])
        assert len(found) == 1
    else:
        version = of_card.version_at(at)
        minimum = version is not None and any(
            rate.minimum_microtokens for rate in version.rates.values()
        )
        assert isinstance(priced, Unpriced) or minimum


def test_where_all_rates_are_whole_a_part_is_paid_at_its_own_and_not_within_its_whole() -> None:
    rates = {
        ("input", None, ""): Rate(microtokens=10, per_quantity=2),
        ("cached", None, ""): Rate(microtokens=1),
        ("output", None, ""): Rate(microtokens=7),
    }
    of_card = card((0, rates), parts={"input": ["cached"]})
    quantities = {"cached": 4, "output": 3, "input": 10}
    [formula] = formulas(of_card, "", "gpt", list(quantities))
    assert formula.cost_microtokens(quantities) == (10 - 4) * 5 + 4 * 1 + 3 * 7
    assert price(of_card, "", [Usage("gpt", 0, quantities)]) == Priced(55, [55], [1])
