"""Holds: asked for, captured, released, over in time; and what the debit makes of them."""

from datetime import timedelta

import pytest
from msgspec.structs import replace

from ledger import accounts, debiting, holds, queries
from ledger.catalog import NewRate
from ledger.errors import (
    HoldConflict,
    HoldReleased,
    InsufficientTokens,
    InvalidHold,
    InvalidRuns,
    NothingHeld,
    RunDebited,
    UnknownAccount,
    UnknownHold,
)
from ledger.models import Hold, Run, Standing
from ledger.reported import NewInference, NewPart
from ledger.units import shard_of
from tests.ledger.builders import (
    HOUR,
    NOON,
    accept,
    debit,
    drain,
    make_account,
    make_lot,
    make_overage,
    make_run,
    publish_rates,
)
from tests.ledger.holding import available, capture, hold, new_hold, release, status

MINUTE = timedelta(minutes=1)


def test_holds_count_against_what_is_available(shop, account_id) -> None:
    """Five holds of 1,000 fill 5,000: the sixth is refused, and is told why."""
    make_lot(account_id, 5_000)
    for _ in range(5):
        hold(shop, 1_000)
    with pytest.raises(InsufficientTokens) as refusal:
        hold(shop, 1)
    facts = refusal.value
    assert (facts.asked_microtokens, facts.available_microtokens, facts.held_microtokens) == (
        1,
        5_000,
        5_000,
    )
    assert available(account_id) == 0
    assert Hold.objects.count() == 5


def test_overage_may_be_held_up_to_its_cap_and_debt_may_not(shop, account_id) -> None:
    make_lot(account_id, 10)
    make_overage(account_id, cap_microtokens=5)
    hold(shop, 15)
    with pytest.raises(InsufficientTokens):
        hold(shop, 1)


def test_overage_without_a_cap_may_be_held_without_end(shop, account_id) -> None:
    make_overage(account_id)
    for _ in range(3):
        hold(shop, 100_000_000_000_000)


def test_only_lots_that_serve_now_can_be_held(shop, account_id) -> None:
    make_lot(account_id, 5, hours=0)
    make_lot(account_id, 7, from_hours=1)
    with pytest.raises(InsufficientTokens):
        hold(shop, 1)
    hold(shop, 5, at=NOON - MINUTE)
    hold(shop, 7, at=NOON + HOUR)


def test_a_debit_lowers_what_can_be_held_at_once(shop, account_id) -> None:
    make_lot(account_id, 10)
    debit(shop, [make_run(4)])
    debit(shop, [make_run(1)])
    with pytest.raises(InsufficientTokens):
        hold(shop, 6)
    hold(shop, 5)


def test_the_run_settles_its_hold_whichever_way_it_came(shop, account_id) -> None:
    make_lot(account_id, 100)
    hold(shop, 40, run="a")
    hold(shop, 40, run="b")
    capture(shop, make_run(30, run_id="a"))
    debit(shop, [make_run(50, run_id="b")], at=NOON)
    assert available(account_id) == 20
    assert {one.run_id: one.counted_microtokens for one in Hold.objects.all()} == {"a": 0, "b": 0}
    standing = Standing.objects.get(account_id=account_id)
    assert (standing.held_microtokens, standing.open_holds_count) == (0, 0)


def test_what_a_run_costs_above_its_hold_is_paid_all_the_same(shop, account_id) -> None:
    """Hold 1,000 of 1,100; it really costs 1,240: 1,100 from the lot, 140 are overage."""
    make_lot(account_id, 1_100)
    overage = make_overage(account_id, cap_microtokens=500)
    hold(shop, 1_000, run="r")
    capture(shop, make_run(1_240, run_id="r"))
    out = {lot.id: lot.out_microtokens for lot in queries.lots(account_ids=[account_id])}
    assert out[overage] == 140
    assert available(account_id) == 360


def test_without_overage_what_is_above_the_hold_is_debt(shop, account_id) -> None:
    make_lot(account_id, 1_100)
    hold(shop, 1_000, run="r")
    capture(shop, make_run(1_240, run_id="r"))
    assert queries.balances(account_ids=[account_id], at=NOON)[account_id].debt_microtokens == 140


def test_a_second_capture_returns_the_first_ones_result(shop, account_id) -> None:
    make_lot(account_id, 100)
    hold(shop, 40, run="r")
    run = make_run(30, run_id="r")
    capture(shop, run)
    capture(shop, run)
    assert Run.objects.count() == 1
    assert available(account_id) == 70
    assert release(shop, "r").status(NOON) == "captured"


def test_a_second_release_changes_nothing(shop, account_id) -> None:
    make_lot(account_id, 100)
    hold(shop, 40, run="r")
    first = release(shop, "r")
    assert release(shop, "r", at=NOON + MINUTE) == first
    assert first.status(NOON) == "released"
    assert available(account_id) == 100


def test_a_released_hold_cannot_be_captured(shop, account_id) -> None:
    make_lot(account_id, 100)
    hold(shop, 40, run="r")
    release(shop, "r")
    with pytest.raises(HoldReleased):
        capture(shop, make_run(1, run_id="r"))
    assert not Run.objects.exists()


def test_a_refused_hold_can_be_neither_captured_nor_released(shop, account_id) -> None:
    with pytest.raises(InsufficientTokens):
        hold(shop, 40, run="r")
    with pytest.raises(NothingHeld):
        capture(shop, make_run(1, run_id="r"))
    with pytest.raises(NothingHeld):
        release(shop, "r")
    assert not Run.objects.exists()


def test_a_refused_hold_may_be_asked_for_again(shop, account_id) -> None:
    with pytest.raises(InsufficientTokens):
        hold(shop, 40, run="r")
    make_lot(account_id, 100)
    assert hold(shop, 40, run="r").status(NOON) == "held"


def test_the_charge_wins_over_a_release_that_came_first(shop, account_id) -> None:
    make_lot(account_id, 100)
    hold(shop, 40, run="r")
    release(shop, "r")
    debit(shop, [make_run(30, run_id="r")], at=NOON + MINUTE)
    captured = Hold.objects.get()
    assert captured.released_at == NOON
    assert captured.captured_at == NOON + MINUTE
    found = holds.find(account=accounts.account(account_id=account_id), run_id="r")
    assert found.is_after_release
    assert available(account_id) == 70


def test_a_run_that_is_accepted_keeps_its_hold_from_being_released(shop, account_id) -> None:
    """Between acceptance and debit nobody else gets the tokens, and then the run has them."""
    make_lot(account_id, 100)
    hold(shop, 80, run="r")
    hold(shop, 10, run="another")
    accept(shop, [make_run(1), make_run(70, run_id="r")], at=NOON)
    assert release(shop, "r").status(NOON) == "capturing"
    assert release(shop, "another").status(NOON) == "released"
    with pytest.raises(InsufficientTokens):
        hold(shop, 21)
    # Nor after the deadline, as long as the run waits for its debit.
    assert available(account_id, at=NOON + HOUR) == 20
    drain(account_id, at=NOON + HOUR)
    assert status(shop, "r") == "captured"
    assert available(account_id) == 29


def test_a_captured_hold_stays_held_until_the_debit(shop, account_id) -> None:
    make_lot(account_id, 100)
    hold(shop, 80, run="r")
    account = accounts.account(account_id=account_id)
    holds.capture(account=account, run=make_run(70, run_id="r"), at=NOON + 14 * MINUTE)
    holds.capture(account=account, run=make_run(70, run_id="r"), at=NOON + 15 * MINUTE)
    assert available(account_id, at=NOON + HOUR) == 20
    with pytest.raises(InsufficientTokens):
        hold(shop, 21, at=NOON + HOUR)
    debiting.drain_shard(shard=shard_of(account_id), at=NOON + HOUR)
    found = holds.find(account=account, run_id="r")
    assert not found.is_late
    assert found.claimed_at == NOON + 14 * MINUTE
    assert available(account_id, at=NOON + HOUR) == 30


def test_a_hold_past_its_deadline_counts_for_nothing_whether_or_not_anybody_swept(
    shop, account_id
) -> None:
    make_lot(account_id, 100)
    hold(shop, 100, run="r")
    last = NOON + timedelta(seconds=900) - timedelta(microseconds=1)
    assert available(account_id, at=last) == 0
    assert available(account_id, at=NOON + 15 * MINUTE) == 100
    with pytest.raises(InsufficientTokens):
        hold(shop, 1, at=last)
    assert status(shop, "r", at=NOON + 15 * MINUTE) == "expired"
    hold(shop, 100, run="s", at=NOON + 15 * MINUTE)


@pytest.mark.parametrize("is_swept", [False, True])
@pytest.mark.parametrize("way", ["capture", "run"])
def test_a_late_capture_is_a_normal_debit_and_says_so(shop, account_id, way, is_swept) -> None:
    make_lot(account_id, 100)
    hold(shop, 60, run="r")
    late = NOON + 16 * MINUTE
    if is_swept:
        assert holds.sweep(at=late) == 1
        assert holds.sweep(at=late) == 0
    hold(shop, 100, run="s", at=late)
    if way == "capture":
        capture(shop, make_run(50, run_id="r"), at=late)
    else:
        debit(shop, [make_run(50, run_id="r")], at=late)
    found = holds.find(account=accounts.account(account_id=account_id), run_id="r")
    assert found.is_late
    assert found.status(late) == "captured"
    assert available(account_id, at=late) == -50


def test_a_capture_after_days_is_a_normal_debit_and_says_so(shop, account_id) -> None:
    make_lot(account_id, 100)
    hold(shop, 60, run="r")
    holds.sweep(at=NOON + HOUR)
    holds.sweep(at=NOON + 48 * HOUR)
    assert Standing.objects.get(account_id=account_id).open_holds_count == 0
    capture(shop, make_run(50, run_id="r"), at=NOON + 72 * HOUR)
    found = holds.find(account=accounts.account(account_id=account_id), run_id="r")
    assert found.is_late
    assert Standing.objects.get(account_id=account_id).open_holds_count == 0


def test_the_same_request_again_gets_the_same_hold(shop, account_id) -> None:
    make_lot(account_id, 100)
    first = hold(shop, 40, run="r")
    assert hold(shop, 40, run="r", at=NOON + MINUTE) == first
    with pytest.raises(HoldConflict):
        hold(shop, 41, run="r")
    assert available(account_id) == 60


def test_one_batch_may_ask_twice(shop, account_id) -> None:
    make_lot(account_id, 100)
    asks = [new_hold(40, run="r"), new_hold(40, run="r"), new_hold(41, run="r"), new_hold(61)]
    requests = [holds.estimate(book_id=shop.book_id, hold=one, at=NOON) for one in asks]
    first, again, other, too_much = holds.authorize(requests=requests, at=NOON)
    assert first == again
    assert isinstance(other, HoldConflict)
    assert isinstance(too_much, InsufficientTokens)
    assert available(account_id) == 60


def test_a_run_that_is_debited_needs_no_hold(shop, account_id) -> None:
    make_lot(account_id, 100)
    debit(shop, [make_run(5, run_id="r")])
    with pytest.raises(RunDebited):
        hold(shop, 5, run="r")


def test_a_hold_is_as_large_as_the_run_may_become(shop, account_id) -> None:
    """Priced by the run's own ceiling: 4,096 where a default would have said 500."""
    make_lot(account_id, 10_000)
    inferences = [NewInference(engine="engine", quantities={"executions": 4_096})]
    assert hold(shop, None, inferences=inferences).microtokens == 4_096


def test_an_estimate_takes_the_same_rates_as_the_run(shop, account_id) -> None:
    make_lot(account_id, 1_000_000)
    publish_rates(shop, [NewRate(meter="executions", microtokens=7)], effective_at=NOON)
    inferences = [NewInference(engine="engine", quantities={"executions": 3})] * 2
    asked = hold(shop, None, run="r", inferences=inferences, at=NOON)
    debit(shop, [make_run(6, run_id="r")])
    assert Run.objects.get().microtokens == asked.microtokens == 42


@pytest.mark.parametrize(
    ("changes", "field", "rule"),
    [
        ({}, "microtokens", "estimate"),
        (
            {
                "microtokens": 1,
                "inferences": [NewInference(engine="engine", quantities={"executions": 1})],
            },
            "microtokens",
            "estimate",
        ),
        (
            {"inferences": [NewInference(engine="other", quantities={"executions": 1})]},
            "inferences[0].engine",
            "unknown_engine",
        ),
        ({"microtokens": 1, "project": "a\x00b"}, "body", "text"),
    ],
)
def test_what_breaks_a_rule_is_named(shop, account_id, changes, field, rule) -> None:
    asked = new_hold(changes.pop("microtokens", None), **changes)
    with pytest.raises(InvalidHold) as refusal:
        holds.authorize_one(book_id=shop.book_id, hold=asked, at=NOON)
    assert [(fault.field, fault.rule) for fault in refusal.value.faults] == [(field, rule)]


def test_what_no_rate_prices_cannot_be_held(shop, account_id) -> None:
    long_ago = NOON - 24 * 400 * HOUR
    asked = new_hold(None, inferences=[NewInference(engine="engine", quantities={"executions": 1})])
    with pytest.raises(InvalidHold, match="can't be priced"):
        holds.authorize_one(book_id=shop.book_id, hold=asked, at=long_ago)


def test_a_hold_needs_an_account_and_a_cost_centre(shop) -> None:
    make_account(shop, "bare", default_cost_centre="")
    with pytest.raises(UnknownAccount):
        hold(shop, 1, account="nobody")
    with pytest.raises(InvalidHold) as refusal:
        hold(shop, 1, account="bare")
    assert refusal.value.faults[0].rule == "cost_centre_missing"


def test_a_run_that_breaks_a_rule_claims_nothing(shop, account_id) -> None:
    """A price of -1, a sentinel of some provider, never becomes a credit: it is refused."""
    make_lot(account_id, 100)
    hold(shop, 40, run="r")
    wrong = make_run(1, run_id="r")
    wrong.inferences[0].quantities["nothing"] = 1
    with pytest.raises(InvalidRuns):
        capture(shop, wrong)
    assert status(shop, "r") == "held"
    assert Hold.objects.get().claimed_at is None


def test_a_parked_run_keeps_its_hold_until_it_is_priced(shop, account_id) -> None:
    make_lot(account_id, 100)
    hold(shop, 40, run="r")
    long_ago = NOON - 24 * 400 * HOUR
    capture(shop, make_run(1, run_id="r", at=long_ago))
    assert status(shop, "r", at=NOON + 24 * HOUR) == "capturing"
    assert available(account_id, at=NOON + 24 * HOUR) == 60


def test_an_unknown_hold_is_unknown(shop, account_id) -> None:
    with pytest.raises(UnknownHold):
        holds.find(account=accounts.account(account_id=account_id), run_id="r")


def test_a_hold_that_was_over_stays_over_though_the_clock_is_put_back(shop, account_id) -> None:
    make_lot(account_id, 10)
    hold(shop, 6, run="r")
    # Its time is over, and somebody else has the tokens.
    hold(shop, 9, run="other", at=NOON + HOUR)
    assert status(shop, "r", at=NOON) == "expired"
    capture(shop, make_run(6, run_id="r"))
    found = holds.find(account=accounts.account(account_id=account_id), run_id="r")
    assert (found.status(NOON), found.is_late) == ("captured", True)


def test_a_capture_long_after_its_run_was_debited_awaits_nothing(shop, account_id) -> None:
    make_lot(account_id, 100)
    hold(shop, 6, run="r")
    for days in (1, 3):  # it is over, and then nobody awaits its run any more
        while holds.sweep(at=NOON + days * 24 * HOUR):
            pass
    later = NOON + 4 * 24 * HOUR
    debit(shop, [make_run(6, run_id="r")], at=later)
    capture(shop, make_run(6, run_id="r"), at=later)
    assert status(shop, "r", at=later) == "expired"
    assert available(account_id, at=later) == 94


def test_a_run_in_parts_that_has_ended_needs_no_hold(shop, account_id) -> None:
    make_lot(account_id, 100)
    last = replace(make_run(3, run_id="r"), part=NewPart(id="1", last=True))
    debit(shop, [last])
    with pytest.raises(RunDebited):
        hold(shop, 6, run="r")
