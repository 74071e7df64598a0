"""An account moves to another time zone in the middle of its history: its days begin elsewhere."""

import threading
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import accounts, days, folding, limits, moving, reviews, usage
from ledger.errors import InvalidAccount, LimitReached, UnknownAccount
from ledger.models import Account, LimitExcess, Run
from ledger.reviews import Answer
from ledger.units import SHARDS, shard_of
from tests.ledger.builders import (
    HOUR,
    NOON,
    debit,
    make_account,
    make_lot,
    make_run,
    make_shop,
)
from tests.ledger.holding import hold, limit, release, status
from tests.ledger.using import everything, make_shop_of_engines, run_of

TOKYO = "Asia/Tokyo"
MINUTE = timedelta(minutes=1)
# When 15 June ends in Tokyo.
MIDNIGHT = datetime(2026, 6, 15, 15, tzinfo=UTC)


@pytest.fixture
def shop(db: None):
    return make_shop_of_engines()


def time_zone(account_id: int) -> str:
    return Account.objects.values_list("time_zone", flat=True).get(id=account_id)


def by_day(account_id: int) -> list[tuple[datetime, int]]:
    return [(one.begins_at, one.microtokens) for one in everything(account_id, granularity="day")]


def test_an_account_is_opened_in_its_time_zone(shop) -> None:
    account_id = make_account(shop, time_zone=TOKYO)
    assert time_zone(account_id) == TOKYO
    debit(shop, [make_run(2, at=MIDNIGHT - MINUTE), make_run(3, at=MIDNIGHT)])
    assert by_day(account_id) == [(MIDNIGHT - 24 * HOUR, 2), (MIDNIGHT, 3)]


@pytest.mark.parametrize("name", ["", "Mars/Base", "europe/paris", "localtime", "../etc/passwd"])
def test_what_is_not_in_the_list_is_no_time_zone(shop, account_id, name) -> None:
    for refused in (
        lambda: make_account(shop, "globex", time_zone=name),
        lambda: moving.move_account(account_id=account_id, time_zone=name),
    ):
        with pytest.raises(InvalidAccount) as refusal:
            refused()
        [fault] = refusal.value.faults
        assert (fault.field, fault.rule) == ("time_zone", "exists")
    assert list(Account.objects.values_list("code", "time_zone")) == [("acme", "UTC")]


def test_an_account_that_nobody_opened_does_not_move(db: None) -> None:
    with pytest.raises(UnknownAccount):
        moving.move_account(account_id=5, time_zone=TOKYO)


def test_usage_is_shown_by_the_days_of_where_the_account_is_now(shop, account_id) -> None:
    """Runs of one engine and of several, folded and not, before the move and after it."""
    debit(shop, [make_run(1, at=MIDNIGHT - MINUTE), run_of({"gpt": 2, "claude": 3}, at=MIDNIGHT)])
    folding.fold_all()
    debit(shop, [make_run(4, at=MIDNIGHT)])
    before = everything(account_id, by=["engine"])
    assert by_day(account_id) == [(NOON - 12 * HOUR, 10)]
    moving.move_account(account_id=account_id, time_zone=TOKYO)
    for _ in range(2):
        assert by_day(account_id) == [(MIDNIGHT - 24 * HOUR, 1), (MIDNIGHT, 9)]
        assert everything(account_id, by=["engine"]) == before
        assert sum(one.microtokens for one in everything(account_id, granularity="month")) == 10
        folding.fold_all()
    debit(shop, [make_run(5, at=MIDNIGHT + 24 * HOUR)])
    folding.fold_all()
    moving.move_account(account_id=account_id, time_zone="UTC")
    assert by_day(account_id) == [(NOON - 12 * HOUR, 10), (NOON + 12 * HOUR, 5)]


def test_others_of_its_shard_stay_where_they_are(shop) -> None:
    codes = iter(f"code-{number}" for number in range(10 * SHARDS))
    first = make_account(shop)
    second = next(
        account_id
        for account_id in (make_account(shop, code) for code in codes)
        if shard_of(account_id) == shard_of(first)
    )
    other = accounts.account(account_id=second).code
    debit(shop, [make_run(1, at=MIDNIGHT), make_run(2, at=MIDNIGHT, account=other)])
    folding.fold_all()
    moving.move_account(account_id=first, time_zone=TOKYO)
    assert by_day(first) == [(MIDNIGHT, 1)]
    assert by_day(second) == [(NOON - 12 * HOUR, 2)]


def test_many_blocks_are_read_some_at_a_time(shop, account_id, monkeypatch) -> None:
    for _ in range(5):
        debit(shop, [make_run(2, at=MIDNIGHT)])
    folding.fold_all()
    debit(shop, [make_run(1, at=MIDNIGHT)])
    monkeypatch.setattr(folding, "BLOCKS_PER_FOLD_MAX", 2)
    moving.move_account(account_id=account_id, time_zone=TOKYO)
    assert by_day(account_id) == [(MIDNIGHT, 11)]


def test_daily_limits_count_anew_by_the_days_that_are_now(shop, account_id) -> None:
    make_lot(account_id, 1_000, price_micros=3_000)
    tokens = limit(account_id, 10)
    money = limit(account_id, 60, unit="money", scope="workflow", hard=False)
    term = limit(account_id, 100, period="term", until_at=NOON + 90 * 24 * HOUR)
    debit(shop, [make_run(3, at=MIDNIGHT - MINUTE), make_run(4, at=MIDNIGHT)])
    hold(shop, 2, at=MIDNIGHT, run="open")
    hold(shop, 1, at=MIDNIGHT, run="given back")
    release(shop, "given back", at=MIDNIGHT + MINUTE)
    moving.move_account(account_id=account_id, time_zone=TOKYO)

    def counted(limit_id: int, at: datetime) -> list[tuple[int, int]]:
        now = limits.limit_now(account_id=account_id, limit_id=limit_id, at=at)
        return [(use.used, use.held) for use in now.uses]

    assert counted(tokens.id, MIDNIGHT - MINUTE) == [(3, 0)]
    assert counted(tokens.id, MIDNIGHT) == [(4, 2)]
    assert counted(money.id, MIDNIGHT - MINUTE) == [(9, 0)]
    assert counted(money.id, MIDNIGHT) == [(12, 6)]
    assert counted(term.id, MIDNIGHT) == [(7, 2)]
    with pytest.raises(LimitReached):
        hold(shop, 5, at=MIDNIGHT)
    hold(shop, 4, at=MIDNIGHT)
    debit(shop, [make_run(2, run_id="open", at=MIDNIGHT)])
    assert counted(tokens.id, MIDNIGHT) == [(6, 4)]


def test_what_went_beyond_a_limit_stays_written(shop, account_id) -> None:
    limit(account_id, 3)
    debit(shop, [make_run(2, at=MIDNIGHT - MINUTE), make_run(2, at=MIDNIGHT)])
    before = list(LimitExcess.objects.values_list("used_after", "period_start"))
    assert len(before) == 1
    moving.move_account(account_id=account_id, time_zone=TOKYO)
    assert list(LimitExcess.objects.values_list("used_after", "period_start")) == before


def test_a_review_that_waits_or_stands_is_the_same_after_a_move(shop, account_id) -> None:
    make_lot(account_id, 1_000)
    limit(account_id, 10, hard=False)
    hold(shop, 11, run="asks")
    moving.move_account(account_id=account_id, time_zone=TOKYO)
    hold(shop, 12, run="asks too")
    [review] = reviews.waiting(account_ids=[account_id])
    assert review.waiting_count == 2
    moving.move_account(account_id=account_id, time_zone="America/New_York")
    answered = reviews.answer(
        account_id=account_id, review_id=review.id, answer=Answer(allow=True, reason="go on"),
        at=NOON,
    )  # fmt: skip
    assert answered.until_at == datetime(2026, 6, 16, 4, tzinfo=UTC)
    assert {status(shop, run) for run in ("asks", "asks too")} == {"held"}
    moving.move_account(account_id=account_id, time_zone=TOKYO)
    hold(shop, 13, run="passes")
    assert status(shop, "passes") == "held"


def test_whoever_reads_while_an_account_moves_counts_each_run_once(
    transactional_db: None, shop, account_id
) -> None:
    debit(shop, [make_run(1, at=NOON + hour * HOUR) for hour in range(48)])
    after = 12  # of these, so many occur after what is read
    is_done = threading.Event()

    def move_to_and_fro() -> None:
        try:
            for _ in range(20):
                for zone in (TOKYO, "UTC"):
                    debit(shop, [make_run(1, at=NOON)])
                    folding.fold_all()
                    moving.move_account(account_id=account_id, time_zone=zone)
        finally:
            is_done.set()
            connection.close()

    mover = threading.Thread(target=move_to_and_fro)
    mover.start()
    wrong = []
    while not is_done.is_set():
        least = Run.objects.count()
        lines = usage.read(
            account_ids=[account_id], from_at=NOON - 12 * HOUR, until_at=NOON + 36 * HOUR
        )
        found = sum(line.microtokens for line in lines) + after
        most = Run.objects.count()
        if not least <= found <= most:
            wrong.append((least, found, most))
    mover.join()
    assert wrong == []
    assert sum(day for _, day in by_day(account_id)) == 48 + 40


@settings(max_examples=20)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("debit"), st.integers(0, 70)),
            st.tuples(st.just("move"), st.sampled_from(["UTC", TOKYO, "Asia/Kathmandu"])),
            st.tuples(st.just("fold"), st.none()),
        ),
        min_size=3,
        max_size=12,
    )
)
def test_wherever_it_moves_and_whenever_usage_is_what_the_runs_say(db, steps) -> None:
    shop = make_shop()
    account_id = make_account(shop, code=f"acme-{shop.book_id}")
    limit(account_id, 5, hard=False)
    zone = "UTC"
    runs: list[datetime] = []
    for step, value in steps:
        if step == "debit":
            runs.append(NOON + value * HOUR)
            debit(shop, [make_run(1, at=runs[-1], account=f"acme-{shop.book_id}")])
        elif step == "move":
            zone = value
            moving.move_account(account_id=account_id, time_zone=zone)
        else:
            folding.fold_all()
    expected: dict[datetime, int] = defaultdict(int)
    for at in runs:
        expected[days.begin(at, "day", zone)] += 1
    found = usage.read(
        account_ids=[account_id], from_at=NOON - 99 * HOUR, until_at=NOON + 99 * HOUR,
        granularity="day",
    )  # fmt: skip
    assert {line.begins_at: line.microtokens for line in found} == expected
