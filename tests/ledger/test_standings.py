"""A worker that remembers how accounts stood debits as one that remembers nothing."""

import re
from copy import deepcopy
from importlib.resources import files

import pytest
from django.db import transaction

from ledger import sql, standings
from ledger.invariants import violations
from ledger.models import Lot, Run, Standing
from ledger.units import shard_of
from tests.ledger.builders import debit, make_account, make_lot, make_run, make_shop


@pytest.fixture
def shop(db: None):
    """An account with a lot of 100 and one of 1,000 for later, of which 3 are taken."""
    shop = make_shop()
    account_id = make_account(shop)
    make_lot(account_id, 100, priority=1, price_micros=7)
    make_lot(account_id, 1_000, priority=2)
    debit(shop, [make_run(3)])
    return shop


def told() -> list[bool]:
    """Of each account, whether its last debit was told how it stood: its mark says so."""
    return [mark < 0 for mark in Standing.objects.values_list("mark", flat=True)]


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


def test_more_accounts_than_a_worker_remembers_are_told(shop, monkeypatch) -> None:
    monkeypatch.setattr(standings, "REMEMBERED_MAX", 1)
    codes = ["acme", *(f"a{number}" for number in range(9))]
    shards = {shard_of(make_account(shop, code)) for code in codes[1:]}
    assert len(shards) > 1
    for _ in range(2):
        debit(shop, [make_run(1, account=code) for code in codes])
        assert len(standings._memories) == 1, "those of the shard that came last"
    assert told() == [True] * len(codes)
    assert violations() == {}


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
