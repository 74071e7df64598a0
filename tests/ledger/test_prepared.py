"""Statements in one round trip: what goes there and back, and what is left when something fails."""

import os
import signal
import socket
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import psycopg
import pytest
from django.db import connection, transaction
from psycopg.pq import TransactionStatus

from ledger import sql
from ledger.packing import bigints, instants, unpack_array, uuids
from ledger.sql import prepared
from ledger.sql.prepared import Statement

NOON = datetime(2026, 7, 1, 12, 0, 0, 123, tzinfo=UTC)


@pytest.fixture
def own(transactional_db: None) -> Iterator[psycopg.Connection[Any]]:
    """A connection that commits each statement by itself, and may be lost."""
    made = connection.get_new_connection(connection.get_connection_params())
    made.autocommit = True
    yield made
    made.close()


def asked(own: psycopg.Connection[Any], text: str, **parameters: object) -> list[tuple[Any, ...]]:
    [result] = prepared.run(own, [Statement(text, text, parameters)])
    return prepared.rows(own, result)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (7, "int"),
        (2**62, "bigint"),
        (-1, "smallint"),
        (True, "boolean"),
        (None, "int"),
        ("", "text"),
        ('it\'s 100 % {"ü", \\}', "text"),
        (b"\x00\xff", "bytea"),
        (b"", "bytea"),
        (NOON, "timestamptz"),
        (Decimal("0.10"), "numeric"),
        (uuid.UUID(int=5), "uuid"),
        ([1, 2], "int[]"),
        (["a,b", 'c"d', "", "{}", "null"], "text[]"),
        ([b"\x00", b""], "bytea[]"),
        ([uuid.UUID(int=5)], "uuid[]"),
    ],
)
def test_a_value_comes_back_as_it_went(own, value: object, kind: str) -> None:
    assert asked(own, f"SELECT %(value)s::{kind}", value=value) == [(value,)]


def test_packed_arrays_go_as_they_are(own) -> None:
    text = "SELECT %(numbers)s::bigint[], %(times)s::timestamptz[], %(keys)s::uuid[]"
    numbers, times = np.array([1, -(2**60)]), np.array([0, 10**15])
    keys = np.frombuffer(bytes(range(32)), "V16")
    packed = {"numbers": bigints(numbers), "times": instants(times), "keys": uuids(keys)}
    [result] = prepared.run(own, [Statement("packed", text, packed)])
    found = result.get_value(0, 0)
    assert found is not None
    assert unpack_array(found).tolist() == numbers.tolist()
    [(_, instant, key)] = prepared.rows(own, result)
    assert [one.timestamp() * 10**6 for one in instant] == times.tolist()
    assert [one.bytes for one in key] == keys.tolist()


def test_a_parameter_may_stand_in_several_places_and_a_percent_sign_is_doubled(own) -> None:
    text = "SELECT 7 %% 4, %(b)s::int, %(a)s::text, %(b)s::int + 1"
    assert asked(own, text, a="x", b=2) == [(3, 2, "x", 3)]


def test_a_statement_without_rows_gives_none(own) -> None:
    assert asked(own, "SET application_name = 'x'") == []


def test_statements_run_in_order_and_the_first_that_fails_is_the_last(own) -> None:
    asked(own, "CREATE TEMPORARY TABLE done (n int)")
    insert = "INSERT INTO done VALUES (%(n)s)"
    own.autocommit = False
    some = [
        Statement("insert", insert, {"n": 1}),
        Statement("divide", "SELECT 1 / %(n)s", {"n": 0}),
        Statement("insert again", insert, {"n": 2}),
    ]
    with pytest.raises(psycopg.errors.DivisionByZero):
        prepared.run(own, some)
    assert own.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
    own.rollback()
    # What was prepared stays so, what was not reached is prepared now.
    _, divided, _ = prepared.run(own, [some[0], some[1]._replace(parameters={"n": 1}), some[2]])
    assert prepared.rows(own, divided) == [(1,)]
    assert asked(own, "SELECT n FROM done") == [(1,), (2,)]
    own.rollback()
    assert asked(own, "SELECT n FROM done") == []


def test_what_comes_last_may_be_committed_with_it(own) -> None:
    own.autocommit = False
    one = Statement("one", "SELECT 1", {})
    prepared.run(own, [one])
    assert own.info.transaction_status == TransactionStatus.INTRANS
    [result] = prepared.run(own, [one], commits=True)
    assert prepared.rows(own, result) == [(1,)]
    assert own.info.transaction_status == TransactionStatus.IDLE


def test_what_fails_is_not_committed_with_it(own) -> None:
    own.autocommit = False
    table = Statement("table", "CREATE TABLE half_made (id int)", {})
    with pytest.raises(psycopg.errors.DivisionByZero):
        prepared.run(own, [table, Statement("fails", "SELECT 1 / 0", {})], commits=True)
    assert own.info.transaction_status == TransactionStatus.INERROR
    own.rollback()
    assert asked(own, "SELECT to_regclass('half_made')::text") == [(None,)]


def test_what_is_refused_at_the_commit_is_said_and_undone(own) -> None:
    own.autocommit = False
    own.execute("CREATE TABLE late (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    twice = Statement("twice", "INSERT INTO late VALUES (1), (1)", {})
    with pytest.raises(psycopg.errors.UniqueViolation):
        prepared.run(own, [twice], commits=True)
    assert own.info.transaction_status == TransactionStatus.IDLE
    assert asked(own, "SELECT to_regclass('late')::text") == [(None,)]


def is_in_transaction() -> bool:
    status = connection.connection.info.transaction_status
    return bool(status == TransactionStatus.INTRANS)


def test_only_the_outermost_transaction_is_finished(transactional_db) -> None:
    lock = ("lock_shard", {"shard": 7})
    with transaction.atomic():
        with transaction.atomic():
            sql.finish(lock)
            assert is_in_transaction()
        assert is_in_transaction()
        sql.finish(lock)
        assert not is_in_transaction()
    with transaction.atomic():
        sql.lock_shard(7)
        assert is_in_transaction()
    transaction.set_autocommit(False)
    with transaction.atomic():
        sql.finish(lock)
    assert is_in_transaction()
    transaction.rollback()
    transaction.set_autocommit(True)


def test_a_transaction_that_is_to_be_undone_is_not_finished(transactional_db) -> None:
    with transaction.atomic():
        transaction.set_rollback(True)
        with pytest.raises(transaction.TransactionManagementError):
            sql.finish(("lock_shard", {"shard": 7}))


def test_where_none_may_be_kept_none_is(own) -> None:
    """As with DATABASE_PREPARES=0, for a pooler that can't keep them."""
    own.prepare_threshold = None
    numbers = [Statement("number", "SELECT %(n)s::int", {"n": n}) for n in (1, 2)]
    for _ in range(2):
        results = prepared.run(own, numbers)
        assert [prepared.rows(own, one) for one in results] == [[(1,)], [(2,)]]
    assert asked(own, "SELECT name FROM pg_prepared_statements") == []


@pytest.mark.parametrize(
    ("undoing", "error"),
    [
        ("DEALLOCATE ALL", psycopg.errors.InvalidSqlStatementName),
        ("ALTER TABLE typed ALTER n TYPE bigint", psycopg.errors.FeatureNotSupported),
    ],
)
def test_a_connection_whose_statements_are_others_is_given_up(own, undoing, error) -> None:
    own.execute("CREATE TEMPORARY TABLE typed (n int)")
    typed = Statement("typed", "SELECT * FROM typed", {})
    prepared.run(own, [typed])
    own.execute(undoing)
    with pytest.raises(error):
        prepared.run(own, [typed])
    assert own.closed


def test_text_with_nul_is_refused(own) -> None:
    with pytest.raises(psycopg.DataError):
        asked(own, "SELECT %(said)s::text", said="a\x00b")
    assert asked(own, "SELECT 1") == [(1,)]


def test_a_statement_that_cannot_be_prepared_says_so_each_time(own) -> None:
    for _ in range(2):
        with pytest.raises(psycopg.errors.UndefinedTable):
            asked(own, "SELECT * FROM nowhere")
    assert asked(own, "SELECT 1") == [(1,)]


def test_more_goes_and_comes_than_any_buffer_holds(own) -> None:
    text = "SELECT %(data)s::bytea, repeat('x', 10000000)"
    data = bytes(10_000_000)
    results = prepared.run(own, [Statement("large", text, {"data": data})] * 3)
    for result in results:
        assert prepared.rows(own, result) == [(data, "x" * 10_000_000)]


class Interrupted(BaseException):
    pass


def test_who_is_interrupted_leaves_no_connection_with_answers_still_to_come(own) -> None:
    def interrupt(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(Interrupted):
            asked(own, "SELECT pg_sleep(1)")
    finally:
        signal.signal(signal.SIGALRM, before)
    assert own.closed
    with pytest.raises(psycopg.OperationalError):
        asked(own, "SELECT 1")


SLEEPY = Statement("sleepy", "SELECT %(n)s::int, pg_sleep(0.05)::text", {"n": 5})


def test_there_is_time_for_something_else_until_results_are_asked_for(own) -> None:
    with prepared.asking(own, [SLEEPY, SLEEPY]) as results:
        other = sum(range(1_000))
        answers = [prepared.rows(own, one) for one in results()]
    assert (other, answers) == (499_500, [[(5, "")], [(5, "")]])
    assert asked(own, "SELECT 1") == [(1,)]


def test_what_fails_before_results_are_asked_for_leaves_no_connection(own) -> None:
    with pytest.raises(ZeroDivisionError), prepared.asking(own, [SLEEPY]):
        raise ZeroDivisionError
    assert own.closed


def test_results_that_are_never_asked_for_leave_no_connection(own) -> None:
    with pytest.raises(AssertionError), prepared.asking(own, [SLEEPY]):
        pass
    assert own.closed


def test_what_fails_after_results_were_read_leaves_the_connection(own) -> None:
    with pytest.raises(ZeroDivisionError), prepared.asking(own, [SLEEPY]) as results:
        _ = len(results()) / 0
    with pytest.raises(psycopg.errors.DivisionByZero):
        asked(own, "SELECT 1 / %(n)s::int", n=0)
    assert asked(own, "SELECT 1") == [(1,)]


def test_a_connection_that_is_ended_says_why_and_then_that_it_is_lost(own) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [own.info.backend_pid])
    with pytest.raises(psycopg.OperationalError) as ended:
        asked(own, "SELECT 1")
    assert ended.value.sqlstate in ("57P01", None)
    with pytest.raises(psycopg.OperationalError) as lost:
        asked(own, "SELECT 1")
    assert lost.value.sqlstate is None


def test_a_connection_that_breaks_is_lost_whoever_notices(own) -> None:
    with socket.socket(fileno=os.dup(own.pgconn.socket)) as line:
        line.shutdown(socket.SHUT_RDWR)
    for _ in range(2):
        with pytest.raises(psycopg.OperationalError) as lost:
            asked(own, "SELECT 1")
        assert lost.value.sqlstate is None
    assert own.closed


def copy(own: psycopg.Connection[Any], *lines: bytes, to: str = "copied") -> None:
    with prepared.copying(own, f"COPY {to} FROM STDIN") as going:
        for line in lines:
            assert line, "nothing is given"
            going.give(line)
            going.go_on()


@pytest.fixture
def table(own: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    asked(own, "CREATE TEMPORARY TABLE copied (n int PRIMARY KEY, t text)")
    own.autocommit = False
    asked(own, "SELECT 1")  # begins a transaction
    return own


def test_what_is_given_is_copied(table) -> None:
    long = b"x" * 1_000_000
    copy(table, b"1\ta\n2\t", long, b"\n", *(b"%d\tb\n" % n for n in range(3, 9)))
    assert asked(table, "SELECT count(*), max(length(t)) FROM copied") == [(8, 1_000_000)]


@pytest.mark.parametrize(
    ("to", "lines", "error"),
    [
        ("nowhere", [b"1\ta\n"], psycopg.errors.UndefinedTable),
        ("copied", [b"1\ta\n", b"1\tb\n"], psycopg.errors.UniqueViolation),
        ("copied", [b"1\ta\n", b""], AssertionError),
    ],
)
def test_a_copy_that_is_refused_or_given_up_copies_nothing(table, to, lines, error) -> None:
    table.commit()
    asked(table, "SELECT 1")
    with pytest.raises(error):
        copy(table, *lines, to=to)
    table.rollback()
    assert asked(table, "SELECT count(*) FROM copied") == [(0,)]
