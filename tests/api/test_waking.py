"""Shards are announced of which nobody knows; those in which older runs wait, once these are done.

A test is the thread itself, turn by turn, on real intakes; the last one lets the thread run.
"""

import time

import pytest
from celery import current_app

from ledger import debiting
from ledger.api.waking import LOOKED_AT_AGAIN_SECONDS, Told, Waker, look
from ledger.units import shard_of
from tests.ledger.builders import NOON, accept, drain, make_account, make_run, make_shop

SOON = time.monotonic() + 3600


@pytest.fixture
def shop(db):
    return make_shop()


@pytest.fixture
def account_id(shop):
    return make_account(shop)


def taken(shop) -> dict[int, Told]:
    """What is told of a run that comes in now."""
    return {shard: Told(one, SOON) for shard, one in accept(shop, [make_run()]).intakes.items()}


@pytest.fixture
def block_of_one(monkeypatch):
    monkeypatch.setattr(debiting, "INTAKES_PER_BLOCK_MAX", 1)


def test_a_shard_where_nothing_older_waits_is_announced(shop, account_id):
    told = taken(shop)
    assert look(told) == ([shard_of(account_id)], {})


@pytest.mark.usefixtures("block_of_one")
def test_a_shard_where_older_runs_wait_is_kept_and_announced_once_they_are_debited(
    shop, account_id
):
    taken(shop)
    told = taken(shop)
    assert look(told) == ([], told)
    debiting.drain_block(shard=shard_of(account_id), at=NOON)
    assert look(told) == (list(told), {})


def test_a_shard_in_which_nothing_waits_is_forgotten(shop, account_id):
    told = taken(shop)
    drain(account_id)
    assert look(told) == ([], {})


def test_a_shard_that_is_told_again_is_kept_for_its_oldest_and_as_long_as_the_latest():
    for first, second in ([(1, 5.0), (2, 9.0)], [(2, 9.0), (1, 5.0)]):
        waker = Waker()
        waker._add({7: Told(*first)})
        waker._add({7: Told(*second), 8: Told(3, 4.0)})
        assert waker._told == {7: (1, 9.0), 8: (3, 4.0)}


def test_a_shard_is_looked_at_again_for_ten_seconds_after_it_was_last_told():
    waker, now = Waker(), time.monotonic()
    waker._look_again({7: Told(1, now - 0.001), 8: Told(2, now + 60)})
    assert waker._told == {8: (2, now + 60)}
    assert waker._is_told.is_set()
    assert LOOKED_AT_AGAIN_SECONDS == 10
    waker._look_again({7: Told(1, now - 0.001)})
    assert waker._told == {8: (2, now + 60)}


def test_with_none_left_nobody_looks_again():
    waker = Waker()
    waker._look_again({7: Told(1, time.monotonic() - 0.001)})
    assert waker._told == {}
    assert not waker._is_told.is_set()


@pytest.mark.usefixtures("transactional_db", "block_of_one")
def test_the_thread_announces_a_shard_again_when_older_runs_have_been_debited():
    shop = make_shop()
    shard = shard_of(make_account(shop))
    waker = Waker()
    with current_app.connection_for_read() as broker:
        messages = broker.SimpleQueue(current_app.conf.task_default_queue)
        messages.clear()

        def announced() -> object:
            message = messages.get(timeout=10)
            message.ack()
            return message.payload[0][0]

        waker.tell(accept(shop, [make_run()]).intakes)
        assert announced() == [shard]
        waker.tell(accept(shop, [make_run()]).intakes)
        time.sleep(0.3)  # it looks several times
        assert messages.qsize() == 0
        debiting.drain_block(shard=shard, at=NOON)
        assert announced() == [shard]
        debiting.drain_block(shard=shard, at=NOON)
        waker.finish()
        assert messages.qsize() == 0
