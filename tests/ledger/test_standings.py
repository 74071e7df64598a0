"""A worker that remembers how accounts stood debits as one that remembers nothing."""

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from importlib.resources import files

import numpy as np
import pytest
from django.db import transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import accounts, corrections, grants, sql, standings
from ledger.invariants import violations
from ledger.models import Correction, Lot, Run, Standing
from ledger.units import shard_of
from tests.ledger.builders import (
    HOUR,
    NOON,
    debit,
    drain,
    make_account,
    make_lot,
    make_run,
    make_shop,
)
from tests.ledger.test_paths import entries


@pytest.fixture
def shop(db: None):
    """An account with a lot of 100 and one of 1,000 for later, of which 3 are taken."""
    shop = make_shop()
    account_id = make_account(shop)
    make_lot(account_id, 100, priority=1, price_micros=7)
    make_lot(account_id, 1_000, priority=2)
    debit(shop, [make_run(3)])
    return shop


def told(**which: int) -> list[bool]:
    """Of each account, whether its last debit was told how it stood: its mark says so."""
    return [mark < 0 for mark in Standing.objects.filter(**which).values_list("mark", flat=True)]


def taken() -> list[int]:
    out = {lot.id: lot.out_microtokens for lot in Lot.objects.exclude(kind=Lot.Kind.DEBT)}
    for one in Standing.objects.exclude(in_use_lot_id=None):
        assert one.in_use_lot_id is not None
        assert one.in_use_out_microtokens is not None
        out[one.in_use_lot_id] = one.in_use_out_microtokens
    assert violations() == {}
    return [out[lot_id] for lot_id in sorted(out)]


def test_what_is_remembered_need_not_be_told(shop) -> None:
    debit(shop, [make_run(4), make_run(5)])
    assert told() == [False]
    assert taken() == [12, 0]
    assert [run.sequence for run in Run.objects.order_by("sequence")] == [1, 2, 3]


def test_a_worker_that_debited_long_ago_is_told(shop) -> None:
    ours = deepcopy(standings._memories)
    debit(shop, [make_run(90)])
    others = deepcopy(standings._memories)
    standings._memories.clear()
    standings._memories.update(ours)
    debit(shop, [make_run(6)])
    assert told() == [True]
    standings._memories.clear()
    standings._memories.update(others)
    debit(shop, [make_run(10)])
    assert taken() == [100, 9]


def test_what_was_undone_is_not_what_is_remembered(shop) -> None:
    with transaction.atomic():
        debit(shop, [make_run(50), make_run(60)])
        transaction.set_rollback(True)
    debit(shop, [make_run(1)])
    assert told() == [True]
    assert taken() == [4, 0]


def test_a_lot_that_comes_first_now_is_seen(shop) -> None:
    make_lot(Standing.objects.get().account_id, 10)
    debit(shop, [make_run(4)])
    assert taken() == [3, 0, 4]


def test_a_lot_taken_into_use_by_a_debit_is_remembered(shop) -> None:
    debit(shop, [make_run(100)])
    debit(shop, [make_run(1)])
    assert told() == [False]
    assert taken() == [100, 4]


def test_lots_that_are_used_up_are_remembered_no_longer(shop) -> None:
    [account_id] = Standing.objects.values_list("account_id", flat=True)
    remembered = []
    for cost in (100, 1_000):  # each a lot's end
        debit(shop, [make_run(cost)])
        remembered.append(len(standings._memories[shard_of(account_id)].lots[account_id]))
    assert remembered[0] == 2 * remembered[1], "debt alone is left"


def test_more_accounts_than_a_worker_remembers_are_told(shop, monkeypatch) -> None:
    monkeypatch.setattr(standings, "REMEMBERED_MAX", 1)
    by_shard = {shard_of(make_account(shop, code)): code for code in map(str, range(9))}
    codes = list(by_shard.values())
    assert len(codes) > 1
    standings._memories.clear()
    for _ in range(2):
        debit(shop, [make_run(1, account=code) for code in codes])
        assert len(standings._memories) == 1, "those of the shard that came last"
    assert told(runs_count=2) == [True] * len(codes)
    assert violations() == {}


def test_who_fails_while_learning_remembers_nothing(shop, monkeypatch) -> None:
    """What is remembered of one account must never be taken for another's."""
    account_id = Standing.objects.get().account_id
    shard = shard_of(account_id)
    memory = standings._memories[shard]

    def full(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(np, "insert", full)
        memory._ids = memory._ids[:0]
        memory._standings = memory._standings[:0]
        with pytest.raises(MemoryError):
            debit(shop, [make_run(1)])
    assert shard not in standings._memories
    drain(account_id)
    assert taken() == [4, 0]


@contextmanager
def worker(memories: dict[int, standings._Memory]) -> Iterator[None]:
    """Debits are another worker's, with what that one remembers."""
    ours = standings._memories.copy()
    standings._memories.clear()
    standings._memories.update(memories)
    yield
    memories.clear()
    memories.update(standings._memories)
    standings._memories.clear()
    standings._memories.update(ours)


amounts = st.integers(1, 40)
steps = st.one_of(
    st.tuples(st.just("debit"), st.integers(0, 2), st.lists(amounts, min_size=1, max_size=3)),
    st.tuples(st.just("undone"), st.integers(0, 2), st.lists(amounts, min_size=1, max_size=3)),
    st.tuples(st.just("grant"), st.integers(0, 2), amounts),
    st.tuples(st.just("expiring"), st.integers(1, 3), amounts),
    st.tuples(st.just("void"), st.integers(0, 9), amounts),
    st.tuples(st.just("close"), st.integers(1, 3), st.just(0)),
)


@settings(max_examples=settings().max_examples * 6 // 10)
@given(st.lists(steps, min_size=4, max_size=14))
def test_workers_that_remember_debit_as_one_that_does_not(db: None, history) -> None:
    """Of three workers the third remembers nothing; and all of it by that third alone."""
    with transaction.atomic():
        shop = make_shop(effective_at=NOON - 100 * HOUR)
        found = []
        for code in ("many", "plain"):
            account_id = make_account(shop, code)
            for amount in (30, 50, 20):
                make_lot(account_id, amount, price_micros=9)
            remembered: list[dict[int, standings._Memory]] = [{}, {}, {}]
            for place, step in enumerate(history):
                remembered[2] = {}
                number = 2 if code == "plain" else step[1] % 3
                with worker(remembered[number]):
                    take(shop, account_id, code, place, step)
            found.append(entries(account_id))
        assert found[0] == found[1]
        assert violations() == {}
        transaction.set_rollback(True)


def take(shop, account_id: int, code: str, place: int, step) -> None:
    kind, number, what = step
    if kind in ("debit", "undone"):
        runs = [make_run(cost, account=code, run_id=str(uuid.uuid4())) for cost in what]
        with transaction.atomic():
            debit(shop, runs, at=NOON + HOUR)
            transaction.set_rollback(kind == "undone")
    elif kind == "grant":
        make_lot(account_id, what, priority=number - 1)
    elif kind == "expiring":
        make_lot(account_id, what, hours=number, priority=-1)
    elif kind == "close":
        grants.expire_due(at=NOON + number * HOUR)
    elif run := Run.objects.filter(account_id=account_id, sequence=number).first():
        left = run.microtokens - sum(
            -one.microtokens for one in Correction.objects.filter(run_key=run.run_key)
        )
        if left:
            corrections.void(
                account=accounts.account(account_id=account_id),
                run_id=str(run.run_key),
                microtokens=min(left, what),
                reason="wrong",
                idempotency_key=f"void-{place}",
                at=NOON + HOUR,
            )


def test_whoever_changes_what_is_remembered_changes_the_mark() -> None:
    changing = re.compile(r"SET\s[^;]*?\b(runs_count|in_use_\w+) =")
    found = []
    for path in files(sql).iterdir():
        text = path.read_text("utf-8") if path.name.endswith(".sql") else ""
        update = text.partition("UPDATE ledger_standing")[2]
        if changing.search(update):
            assert re.search(r"\bmark = ", update), path.name
            found.append(path.name)
    assert sorted(found) == ["debit_accounts.sql", "put_away_lots.sql", "use_lots.sql"]
