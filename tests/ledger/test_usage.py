"""What runs used: folded once, read exactly, each rung the sum of the one below it."""

import threading
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest
from django.db import connection, transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import days, folding, usage
from ledger.models import Block, Run, Usage, UsageFold
from ledger.units import shard_of
from tests.ledger.builders import (
    HOUR,
    NOON,
    Shop,
    debit,
    make_account,
    make_lot,
    make_run,
)
from tests.ledger.using import LATER, LONG_AGO, everything, make_shop_of_engines, run_of

DAY = timedelta(days=1)


@pytest.fixture
def shop(db: None) -> Shop:
    return make_shop_of_engines()


def lines(account_id: int, **more) -> list[tuple[object, ...]]:
    """(what was asked by …, runs, microtokens) of each line."""
    by = more.get("by", [])
    return [
        (*(getattr(line, name) for name in by), line.runs_count, line.microtokens)
        for line in everything(account_id, **more)
    ]


def test_usage_is_there_as_soon_as_the_debit_is_and_folding_changes_nothing(
    shop, account_id
) -> None:
    debit(shop, [make_run(2), make_run(3, workflow="draft"), make_run(5)])
    before = everything(account_id, by=["workflow"])
    assert [(one.workflow, one.runs_count, one.microtokens) for one in before] == [
        ("review", 2, 7),
        ("draft", 1, 3),
    ]
    assert folding.fold_all() == 1
    assert everything(account_id, by=["workflow"]) == before
    debit(shop, [make_run(1, workflow="draft")])
    assert lines(account_id, by=["workflow"]) == [("review", 2, 7), ("draft", 2, 4)]


def test_a_block_is_folded_once(shop, account_id) -> None:
    debit(shop, [make_run(2)])
    assert folding.fold_all() == 1
    assert folding.fold_all() == 0
    assert folding.fold_shard(shard=shard_of(account_id)) == 0
    assert lines(account_id) == [(1, 2)]


def test_a_shard_is_folded_when_it_is_worth_it_or_after_a_minute(shop) -> None:
    make_account(shop)
    debit(shop, [make_run(2)])
    [recorded_at] = Block.objects.values_list("recorded_at", flat=True)
    assert folding.fold_due(at=recorded_at + timedelta(seconds=60)) == 0
    assert folding.fold_due(at=recorded_at + timedelta(seconds=61)) == 1
    for _ in range(folding.BLOCKS_WORTH_A_FOLD - 1):
        debit(shop, [make_run(1)])
    assert folding.fold_due(at=recorded_at) == 0
    debit(shop, [make_run(1)])
    assert folding.fold_due(at=recorded_at) == folding.BLOCKS_WORTH_A_FOLD


def test_a_fold_that_is_undone_is_done_whole_by_the_next(shop, account_id) -> None:
    debit(shop, [make_run(2)])
    with transaction.atomic():
        folding.fold_all()
        transaction.set_rollback(True)
    assert Usage.objects.count() == 0
    assert lines(account_id) == [(1, 2)]
    folding.fold_all()
    assert lines(account_id) == [(1, 2)]


def test_many_blocks_are_folded_in_several_transactions(shop, account_id, monkeypatch) -> None:
    for _ in range(5):
        debit(shop, [make_run(2)])
    monkeypatch.setattr(folding, "BLOCKS_PER_FOLD_MAX", 2)
    assert folding.fold_shard(shard=shard_of(account_id)) == 5
    monkeypatch.setattr(folding, "BYTES_PER_FOLD_MAX", 1)
    for _ in range(2):
        debit(shop, [make_run(1)])
    assert folding._fold_next(shard_of(account_id)) == 1, "one is always taken, however large"
    assert folding.fold_shard(shard=shard_of(account_id)) == 1
    assert lines(account_id) == [(7, 12)]


def test_a_debit_does_not_wait_for_a_fold_and_two_folds_do_not_fold_twice(
    transactional_db: None, shop, account_id
) -> None:
    debit(shop, [make_run(2)])
    folding.fold_all()
    debit(shop, [make_run(3)])
    with transaction.atomic():
        folding.fold_shard(shard=shard_of(account_id))
        other = connection.copy()
        try:
            with other.cursor() as cursor:
                cursor.execute("SELECT folded_number FROM ledger_usagefold FOR UPDATE SKIP LOCKED")
                assert cursor.fetchall() == [], "somebody else could fold the same block"
                cursor.execute("SET lock_timeout = '1s'")
                cursor.execute("UPDATE ledger_standing SET runs_count = runs_count")
        finally:
            other.close()
    assert lines(account_id) == [(2, 5)]


def test_whoever_reads_while_blocks_are_folded_counts_each_once(
    transactional_db: None, shop, account_id
) -> None:
    is_done = threading.Event()

    def debit_and_fold() -> None:
        try:
            for _ in range(40):
                debit(shop, [make_run(1)])
                folding.fold_all()
        finally:
            is_done.set()
            connection.close()

    writer = threading.Thread(target=debit_and_fold)
    writer.start()
    wrong: list[tuple[int, int, int]] = []
    while not is_done.is_set():
        least = Run.objects.count()
        found = sum(line.runs_count for line in everything(account_id))
        most = Run.objects.count()
        if not least <= found <= most:
            wrong.append((least, found, most))
    writer.join()
    assert wrong == []
    assert lines(account_id) == [(40, 40)]


@pytest.mark.parametrize("is_folded", [False, True])
def test_all_names_can_be_asked_by_and_narrowed_down_to(shop, account_id, is_folded) -> None:
    names: dict[str, Any] = {
        "workflow": "w", "project": "p", "job": "j", "cost_centre": "c", "department": "d",
        "actor": "a",
    }  # fmt: skip
    debit(shop, [run_of({"gpt": 4}, **names), run_of({"claude": 3}), run_of({"gpt": 2})])
    if is_folded:
        folding.fold_all()
    for name, value in names.items():
        found = lines(account_id, by=[name])
        assert len(found) == 2
        assert (value, 1, 4) in found
        assert lines(account_id, only={name: [value]}) == [(1, 4)]
        assert lines(account_id, only={name: ["nobody"]}) == []
    assert lines(account_id, by=["engine"]) == [("gpt", 2, 6), ("claude", 1, 3)]
    assert lines(account_id, by=["workflow"], only={"engine": ["gpt"]}) == [
        ("w", 1, 4),
        ("review", 1, 2),
    ]
    [line] = everything(account_id, by=["account"])
    assert line.account_id == account_id
    assert line.workflow is None


@pytest.mark.parametrize("is_folded", [False, True])
def test_a_window_takes_in_every_hour_that_it_touches(shop, account_id, is_folded) -> None:
    debit(shop, [make_run(hour + 1, at=NOON + hour * HOUR + 0.5 * HOUR) for hour in range(4)])
    if is_folded:
        folding.fold_all()

    def used(from_at, until_at):
        found = usage.by_workflow(account_id=account_id, from_at=from_at, until_at=until_at)
        return sum(line.microtokens for line in found)

    assert used(NOON + HOUR, NOON + 3 * HOUR) == 2 + 3
    assert used(NOON + 1.9 * HOUR, NOON + 2.1 * HOUR) == 2 + 3
    assert used(NOON + HOUR, NOON + HOUR) == 0
    assert used(NOON + 4 * HOUR, NOON + 9 * HOUR) == 0


@pytest.mark.parametrize(
    ("time_zone", "day"),
    [
        ("UTC", datetime(2026, 6, 15, tzinfo=UTC)),
        ("Europe/Paris", datetime(2026, 6, 14, 22, tzinfo=UTC)),
        ("Asia/Kolkata", datetime(2026, 6, 14, 18, 30, tzinfo=UTC)),
        ("Asia/Kathmandu", datetime(2026, 6, 14, 18, 15, tzinfo=UTC)),
    ],
)
def test_days_and_months_begin_in_the_accounts_own_time_zone(shop, time_zone, day) -> None:
    account_id = make_account(shop, time_zone=time_zone)
    instants = [day - timedelta(microseconds=1), day, day + DAY - timedelta(seconds=1), day + DAY]
    debit(shop, [make_run(cost, at=at) for at, cost in zip(instants, (1, 2, 4, 8), strict=True)])
    expected = [(day - DAY, 1), (day, 6), (day + DAY, 8)]
    for _ in range(2):
        found = everything(account_id, granularity="day")
        assert [(one.begins_at, one.microtokens) for one in found] == expected
        one_day = usage.read(account_ids=[account_id], from_at=day, until_at=day + DAY)
        assert [one.microtokens for one in one_day] == [6]
        folding.fold_all()


def test_an_hour_that_comes_twice_is_two_hours_of_one_day(shop) -> None:
    account_id = make_account(shop, time_zone="Europe/Paris")
    # Clocks go back at 01:00 UTC.
    first = datetime(2025, 10, 26, 0, 30, tzinfo=UTC)
    debit(shop, [make_run(1, at=first), make_run(2, at=first + HOUR)])
    folding.fold_all()
    hours = everything(account_id, granularity="hour")
    assert [one.begins_at for one in hours] == [first - HOUR / 2, first + HOUR / 2]
    [day] = everything(account_id, granularity="day")
    assert (day.begins_at, day.microtokens) == (datetime(2025, 10, 25, 22, tzinfo=UTC), 3)


def test_accounts_of_several_time_zones_are_added_up(shop) -> None:
    ids = [make_account(shop), make_account(shop, "globex", time_zone="Asia/Tokyo")]
    debit(shop, [make_run(2), make_run(3, account="globex")])
    window: dict[str, Any] = {"from_at": LONG_AGO, "until_at": LATER}
    [line] = usage.read(account_ids=ids, by=["workflow"], **window)
    assert (line.runs_count, line.microtokens) == (2, 5)
    each = usage.read(account_ids=ids, by=["account"], **window)
    assert {(one.account_id, one.microtokens) for one in each} == {(ids[0], 2), (ids[1], 3)}


def test_the_validated_utility_rate_and_the_cost_of_rework_are_kept(shop, account_id) -> None:
    failed: dict[str, Any] = {"outcome": "failed", "fault": "customer"}
    debit(shop, [run_of({"gpt": 4}) for _ in range(3)])
    debit(shop, [run_of({"gpt": 6}, **failed), run_of({"gpt": 4}, retake_of="nobody knows")])
    [line] = everything(account_id, by=["workflow"])
    assert (line.runs_count, line.failed_count, line.retakes_count) == (5, 1, 1)
    assert line.works_count == 4
    assert line.accepted_first_share == Fraction(3, 4)
    assert line.rework_microtokens == 6
    assert line.unit_microtokens == 22 // 4


def test_unit_costs_have_a_trend_by_month(shop, account_id) -> None:
    may, june = NOON - 31 * DAY, NOON
    debit(shop, [make_run(4, at=may), make_run(6, at=may), make_run(7, at=june)])
    [cost] = usage.unit_costs(account_id=account_id, from_at=LONG_AGO, until_at=LATER)
    assert [one.unit_microtokens for one in cost.months] == [5, 7]
    assert cost.change == Fraction(2, 5)
    [cost] = usage.unit_costs(account_id=account_id, from_at=june - DAY, until_at=LATER)
    assert cost.change is None


hours = st.integers(0, 24 * 70)


@settings(max_examples=150)
@given(
    begin=hours,
    lasts=hours,
    time_zone=st.sampled_from(["UTC", "Europe/Paris", "Asia/Kolkata", "America/Sao_Paulo"]),
    rungs=st.sampled_from([("month", "day", "hour"), ("day", "hour"), ("hour",)]),
)
def test_stretches_cover_a_window_once(begin, lasts, time_zone, rungs) -> None:
    from_at = days.begin(datetime(2026, 2, 20, 3, 30, tzinfo=UTC), "hour", time_zone) + begin * HOUR
    until_at = from_at + lasts * HOUR
    position = from_at
    for stretch in usage.cover(from_at, until_at, rungs, time_zone):
        assert stretch.from_at == position < stretch.until_at
        position = stretch.until_at
        for edge in (stretch.from_at, stretch.until_at):
            assert days.begin(edge, stretch.rung, time_zone) == edge
    assert position == until_at


def recorded(account_id: int) -> dict[datetime, int]:
    """Straight from the runs: microtokens by hour (UTC)."""
    found: dict[datetime, int] = defaultdict(int)
    for run in Run.objects.filter(account_id=account_id):
        found[run.occurred_at.replace(minute=0, second=0, microsecond=0)] += run.microtokens
    return dict(found)


@settings(max_examples=15)
@given(
    batches=st.lists(
        st.lists(
            st.tuples(st.integers(0, 60 * 24), st.integers(1, 9), st.sampled_from("ab")),
            min_size=1,
            max_size=5,
        ),
        max_size=5,
    ),
    folds=st.sets(st.integers(0, 4)),
    window=st.tuples(hours, hours),
)
def test_reads_are_what_the_runs_say_however_much_is_folded(shop, batches, folds, window) -> None:
    with transaction.atomic():
        account_id = make_account(shop)
        begin = datetime(2026, 2, 20, tzinfo=UTC)
        for number, batch in enumerate(batches):
            debit(
                shop,
                [
                    make_run(cost, at=begin + hour * HOUR, workflow=name)
                    for hour, cost, name in batch
                ],
            )
            if number in folds:
                folding.fold_all()
        from_at, until_at = begin + min(window) * HOUR, begin + max(window) * HOUR
        truth = {at: cost for at, cost in recorded(account_id).items() if from_at <= at < until_at}
        for granularity in ("hour", "day", "month", None):
            expected: dict[datetime | None, int] = defaultdict(int)
            for at, cost in truth.items():
                label = None if granularity is None else days.begin(at, granularity, "UTC")
                expected[label] += cost
            names: list[list[usage.Dimension]] = [[], ["workflow"]]
            for by in names:
                found: dict[datetime | None, int] = defaultdict(int)
                for line in usage.read(
                    account_ids=[account_id],
                    from_at=from_at,
                    until_at=until_at,
                    granularity=granularity,
                    by=by,
                ):
                    found[line.begins_at] += line.microtokens
                assert found == expected
        assert Block.objects.count() == len(batches)
        transaction.set_rollback(True)


def test_a_fold_says_how_far_it_came(shop, account_id) -> None:
    debit(shop, [make_run(1)])
    debit(shop, [make_run(1)])
    folding.fold_all()
    assert UsageFold.objects.get(shard=shard_of(account_id)).folded_number == 2


def test_what_cost_centres_paid_adds_up_to_the_lots_price(shop, account_id) -> None:
    """100.00 over three cost centres is 33.33, 33.33 and 33.34; nothing is lost or made."""
    make_lot(account_id, 3, price_micros=100_000_000)
    debit(shop, [make_run(1, cost_centre=name) for name in ("sales", "legal", "it")])
    for _ in range(2):
        paid = [line.micros for line in everything(account_id, by=["cost_centre"])]
        assert sorted(paid) == [33_333_333, 33_333_333, 33_333_334]
        folding.fold_all()


def test_a_thousand_runs_of_a_third_add_up_to_what_the_lot_cost(shop, account_id) -> None:
    make_lot(account_id, 3_000, price_micros=1_000_000_000)
    runs = [make_run(3, cost_centre=f"centre-{number % 7}") for number in range(1_000)]
    for begin in (0, 500):
        folding.fold_all()
        debit(shop, runs[begin : begin + 500])
    for _ in range(2):
        lines = everything(account_id, by=["cost_centre", "workflow"], granularity="day")
        assert len(lines) == 7
        assert sum(line.micros for line in lines) == 1_000_000_000
        folding.fold_all()
