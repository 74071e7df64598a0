"""What was used before a limit was set: read while others debit, and exact all the same."""

import threading
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from ledger import limits, sql
from ledger.limits import NewLimit
from ledger.units import shard_of
from tests.ledger.builders import HOUR, NOON, debit, make_account, make_run, make_shop
from tests.ledger.holding import limit, used

TERM = timedelta(days=3)


@pytest.fixture
def shop(db: None):
    return make_shop()


@pytest.fixture
def account_id(shop) -> int:
    return make_account(shop)


def wait_for_somebody_who_waits() -> None:
    with connection.cursor() as cursor:
        for _ in range(500):
            cursor.execute(
                "SELECT count(*) FROM pg_locks JOIN pg_database AS own ON own.oid = database"
                " WHERE own.datname = current_database() AND locktype = 'advisory' AND NOT granted"
            )
            if cursor.fetchone() != (0,):
                return
            cursor.execute("SELECT pg_sleep(0.01)")
    raise AssertionError("nobody waits")


def test_debits_go_on_while_it_is_read_and_what_they_add_is_counted_once(
    transactional_db: None, shop
) -> None:
    """Read before the shard is locked: what is debited until then is read by itself."""
    account_id = make_account(shop)
    debit(shop, [make_run(1, at=NOON - HOUR), make_run(2, at=NOON), make_run(4)])
    reading: list[str] = []

    def set_limit() -> None:
        try:
            with CaptureQueriesContext(connection) as asked:
                limits.set_limit(
                    account_id=account_id,
                    limit=NewLimit(
                        scope="account",
                        period="term",
                        cap=1_000,
                        hard=True,
                        effective_at=NOON,
                        until_at=NOON + TERM,
                    ),
                    idempotency_key="limit",
                    at=NOON + HOUR,
                )
            reading.extend(one["sql"] for one in asked if "FROM ledger_run" in one["sql"])
        finally:
            connection.close()

    setter = threading.Thread(target=set_limit)
    with transaction.atomic():
        sql.lock_shard(shard_of(account_id))
        setter.start()
        wait_for_somebody_who_waits()
        debit(shop, [make_run(8, at=NOON - HOUR), make_run(16, at=NOON), make_run(32)])
        debit(shop, [make_run(64, at=NOON + TERM), make_run(128, at=NOON + TERM - HOUR)])
    setter.join()
    assert used(account_id, at=NOON + HOUR) == {"": (2 + 4 + 16 + 32 + 128, 0)}
    everything, rest = reading
    assert "NULL::uuid[]" in everything
    assert "NULL::uuid[]" not in rest, "all runs of the account are read while debits wait"


def test_what_was_used_comes_by_period_not_by_the_hour(shop, account_id) -> None:
    """So what is held in memory grows with periods, not with runs."""
    debit(shop, [make_run(1, at=NOON + hour * HOUR) for hour in range(48)])
    limit(account_id, 1_000, period="month", at=NOON)
    past = limits.past_use(account_id=account_id, time_zone="Asia/Tokyo")
    assert [row.microtokens for row in past.rows] == [48]


def test_an_account_that_moved_while_it_was_read_is_read_again(shop, account_id) -> None:
    debit(shop, [make_run(1, at=NOON + hour * HOUR) for hour in range(48)])
    limit(account_id, 1_000, at=NOON)
    past = limits.past_use(account_id=account_id, time_zone="Asia/Tokyo")
    with transaction.atomic():
        sql.lock_shard(shard_of(account_id))
        limits.count_anew(account_id=account_id, past=past)
    assert used(account_id, at=NOON) == {"": (12, 0)}
    assert used(account_id, at=NOON + 24 * HOUR) == {"": (24, 0)}
