"""The ledger's statements, one a file.

A file's header says what the statement does, what locks its caller must hold, its parameters
and the columns of a row. `query` binds those columns, by name, to a frozen dataclass: a
column too many or too few is a TypeError in the first test that runs the statement.

There are two ways to run one. `query`, `rows` and `execute` go through Django and psycopg: for what
runs now and then. `binary`, `in_one_go`, `finish`, `columns` and `copying` are for what runs for
every block, acceptance and hold: prepared, many in one round trip (ledger.sql.prepared).
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from typing import Any, TypeVar

from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.pq.abc import PGresult

from ledger.packing import Integers, unpack_array
from ledger.sql import prepared
from ledger.sql.prepared import Copy

Row = TypeVar("Row")

# A statement to be run, by its name, and its parameters.
Statement = tuple[str, dict[str, Any]]


@cache
def text(name: str) -> str:
    return files(__package__).joinpath(f"{name}.sql").read_text("utf-8")


def query(row: type[Row], name: str, **parameters: Any) -> list[Row]:
    """Run sql/<name>.sql and return one `row` for each of its rows."""
    with connection.cursor() as cursor:
        cursor.execute(text(name), parameters)
        assert cursor.description is not None, f"{name}.sql returns no rows"
        columns = [column.name for column in cursor.description]
        return [row(**dict(zip(columns, values, strict=True))) for values in cursor.fetchall()]


def execute(name: str, **parameters: Any) -> int:
    """Run sql/<name>.sql, which returns no rows; the number of rows it touched."""
    with connection.cursor() as cursor:
        cursor.execute(text(name), parameters)
        return int(cursor.rowcount)


def rows(name: str, **parameters: Any) -> list[tuple[Any, ...]]:
    """Run sql/<name>.sql and return its rows as they are: for those that come by the thousand."""
    with connection.cursor() as cursor:
        cursor.execute(text(name), parameters)
        return list(cursor.fetchall())


def binary(name: str, **parameters: Any) -> list[tuple[Any, ...]]:
    """As `rows`, for what runs all the time: in binary form, and prepared once a connection.

    A statement that returns no rows gives none.
    """
    own, [result] = _run((name, parameters))
    return prepared.rows(own, result)


def in_one_go(*statements: Statement) -> list[list[tuple[Any, ...]]]:
    """As `binary`, for statements that need nothing from each other: one round trip for all.

    They run in their order, each as of its own start: it sees what those before it did, and what
    others did while it waited for a lock that one of them takes. In a transaction.
    """
    assert connection.in_atomic_block, "a lock must outlive the round trip"
    own, results = _run(*statements)
    return [prepared.rows(own, result) for result in results]


def finish(*statements: Statement) -> None:
    """As `in_one_go`, for what a transaction does last: it is committed in the same round trip.
    A transaction around it goes on. One that is to be undone is refused."""
    assert connection.in_atomic_block
    own, wanted = _wanted(*statements)
    own.validate_no_broken_transaction()
    with own.wrap_database_errors:
        # Whatever is around it, Django's or begun by hand, it keeps a savepoint for this one.
        prepared.run(own.connection, wanted, commits=not own.savepoint_ids)


@contextmanager
def asking_columns(name: str, **parameters: Any) -> Iterator[Callable[[], list[Integers]]]:
    """Run sql/<name>.sql, which returns one row of arrays of numbers or instants, as numpy arrays.

    They are asked for within it, once; until then there is time for something else. No object is
    made for an element, in either direction: parameters may be `packed`.
    """
    own, wanted = _wanted((name, parameters))
    with own.wrap_database_errors, prepared.asking(own.connection, wanted) as results:

        def found() -> list[Integers]:
            [result] = results()
            values = [result.get_value(0, place) for place in range(result.nfields)]
            return [unpack_array(b"" if one is None else one) for one in values]

        yield found


def columns(name: str, **parameters: Any) -> list[Integers]:
    """As `asking_columns`, with nothing else to do."""
    with asking_columns(name, **parameters) as found:
        return found()


def _run(*statements: Statement) -> tuple[prepared.Connection, list[PGresult]]:
    own, wanted = _wanted(*statements)
    with own.wrap_database_errors:
        return own.connection, prepared.run(own.connection, wanted)


def _wanted(*statements: Statement) -> tuple[BaseDatabaseWrapper, list[prepared.Statement]]:
    wanted = [prepared.Statement(name, text(name), parameters) for name, parameters in statements]
    # Each look at `connection` finds out anew whose it is: for what runs all the time, once.
    own = connections[DEFAULT_DB_ALIAS]
    own.ensure_connection()
    return own, wanted


@contextmanager
def copying(statement: str) -> Iterator[Copy]:
    """COPY … FROM STDIN: give it bytes as often as there are some; all are there at the end."""
    assert connection.in_atomic_block
    with (
        connection.wrap_database_errors,
        prepared.copying(connection.connection, statement) as copy,
    ):
        yield copy


def array(values: Iterable[object]) -> str:
    """A PostgreSQL array of numbers, uuids, instants or words: quicker than psycopg's."""
    return f"{{{','.join(map(str, values))}}}"


def byteas(values: Iterable[bytes]) -> str:
    """As `array`, of bytes."""
    return array(f'"\\\\x{value.hex()}"' for value in values)


def lock_shard(shard: int) -> None:
    """Become the only writer of a shard until the transaction ends. Waits for the one before."""
    assert connection.in_atomic_block, "a shard is locked inside transaction.atomic()"
    execute("lock_shard", shard=shard)


def see_one_state() -> None:
    """Let every statement of this transaction, its first being this, see the same rows.

    Inside a transaction that had begun before, that one's own state is all there is.
    """
    assert connection.in_atomic_block, "a state is seen inside transaction.atomic()"
    if not connection.savepoint_ids:
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
