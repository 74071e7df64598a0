"""kill -9 between any two statements of a debit: nothing lost, nothing twice, whoever comes next.

A child of this process debits a block on a connection of its own and kills itself before its
n-th message to PostgreSQL, for every n until it comes through. Each time the ledger must stand
as it did before.
"""

import os
import signal
import socket
import traceback
from collections.abc import Callable

import psycopg
import pytest
from django.db import OperationalError, connection, connections
from msgspec.structs import replace
from psycopg.pq.abc import PGconn

from ledger import debiting, queries, receipts
from ledger.intake import NewPart
from ledger.invariants import violations
from ledger.models import Block, Hold, Intake, Run
from ledger.sql import prepared
from ledger.units import shard_of
from tests.ledger.builders import (
    HOUR,
    NOON,
    accept,
    drain,
    make_account,
    make_lot,
    make_overage,
    make_run,
    make_shop,
)
from tests.ledger.holding import hold, limit

LATER = NOON + 500 * HOUR
STATEMENTS_MAX = 200


def killed_before(number: int, work: Callable[[], object]) -> bool:
    """Do it in a child that kills itself before its `number`-th message; whether it came so far."""
    connections.close_all()
    child = os.fork()
    if child == 0:
        try:
            _kill_before(number)
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001  whatever it was, the child goes no further
            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def _kill_before(number: int) -> None:
    left = iter(range(number))

    def counted(send: Callable[..., object]) -> Callable[..., object]:
        def counting(*arguments: object, **named: object) -> object:
            if next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
            return send(*arguments, **named)

        return counting

    for sender, names in (
        (psycopg.Cursor, ("execute",)),
        (prepared, ("send", "send_commit", "give")),
        (psycopg.Connection, ("commit",)),
    ):
        for name in names:
            setattr(sender, name, counted(getattr(sender, name)))


@pytest.fixture
def shop(transactional_db: None):
    return make_shop()


def test_a_debit_is_killed_before_each_of_its_statements(shop) -> None:
    account_id = make_account(shop)
    make_lot(account_id, 10, price_micros=1_000)
    make_lot(account_id, 10, priority=1)
    make_overage(account_id, cap_microtokens=5)
    limit(account_id, 1_000)
    hold(shop, 4, run="held")
    runs = [
        make_run(4, run_id="held"),
        make_run(9, run_id="crossing"),
        replace(make_run(3, run_id="part"), part=NewPart(id="1", last=True)),
        make_run(20, run_id="into debt"),
    ]
    batch = accept(shop, runs)
    before = queries.lots(account_ids=[account_id])

    kills = 0
    while killed_before(kills, lambda: debiting.drain_block(shard=shard_of(account_id), at=LATER)):
        kills += 1
        assert kills < STATEMENTS_MAX
        assert Intake.objects.count() == 1
        assert not Run.objects.exists()
        assert not Block.objects.exists()
        assert queries.lots(account_ids=[account_id]) == before
        assert violations() == {}
    assert kills > 10, "the child was counted at work"

    assert not Intake.objects.exists()
    assert Run.objects.filter(part=0).count() == 4
    assert Hold.objects.get().microtokens == 4
    results = receipts.of_batch(book_id=shop.book_id, batch_id=batch.batch_id)
    assert {one.status for one in results} == {"debited"}
    assert drain(account_id) == 0


@pytest.mark.parametrize("also", ["nothing", "a hold", "a part"])
def test_a_debit_of_little_is_killed_before_each_of_its_statements(shop, also: str) -> None:
    account_id = make_account(shop)
    make_lot(account_id, 10, price_micros=1_000)
    first = make_run(4, run_id="first")
    if also == "a hold":
        hold(shop, 4, run="first")
    if also == "a part":
        first = replace(first, part=NewPart(id="1", last=True))
    accept(shop, [first, make_run(9)])

    kills = kills_undone = 0
    while killed_before(kills, lambda: debiting.drain_block(shard=shard_of(account_id), at=LATER)):
        kills += 1
        assert kills < STATEMENTS_MAX
        # All of it, or nothing.
        assert (Intake.objects.count(), Run.objects.filter(part=0).count()) in {(1, 0), (0, 2)}
        kills_undone += Intake.objects.count()
        assert violations() == {}
    assert kills_undone > 8, "the child was killed at work"

    assert Run.objects.filter(part=0).count() == 2
    assert drain(account_id) == 0


def test_a_debit_of_whose_commit_nobody_hears_is_done(shop, monkeypatch) -> None:
    """By the worker that goes on, and remembers the accounts."""
    account_id = make_account(shop)
    make_lot(account_id, 100)

    def send_commit(pgconn: PGconn) -> None:
        pgconn.send_query_params(b"COMMIT", None)
        with socket.socket(fileno=os.dup(pgconn.socket)) as line:
            line.shutdown(socket.SHUT_RD)

    accept(shop, [make_run(4)])
    with monkeypatch.context() as patch:
        patch.setattr(prepared, "send_commit", send_commit)
        with pytest.raises(OperationalError):
            drain(account_id)
    accept(shop, [make_run(5)])
    assert drain(account_id) == 1
    assert [run.sequence for run in Run.objects.order_by("sequence")] == [1, 2]
    assert violations() == {}


def test_an_acceptance_is_killed_before_each_of_its_statements(shop) -> None:
    account_id = make_account(shop)
    make_lot(account_id, 100)
    runs = [make_run(4, run_id="a"), make_run(5, run_id="b")]

    kills = 0
    while killed_before(kills, lambda: accept(shop, runs)):
        kills += 1
        assert kills < STATEMENTS_MAX
        assert not Intake.objects.exists()
    assert kills > 2

    assert drain(account_id) == 2
    with connection.cursor() as cursor:
        cursor.execute("SELECT sum(microtokens) FROM ledger_run")
        assert cursor.fetchone() == (9,)
