"""Large tables read from end to end, as numpy arrays, a stretch of pages at a time.

In the order in which the rows lie on the disk: nothing is sorted, no index is asked for, and no
object is made for a row. Blocks are written one after another, so the rows of one lie together.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import numpy as np
import psycopg
from django.db import connection

from ledger.packing import Rows

# Some 20,000 runs.
PAGES_AT_ONCE: Final = 500

# The function that gives a column's bytes, and what they are in numpy.
KINDS: Final = {
    "smallint": ("int2send", ">i2"),
    "integer": ("int4send", ">i4"),
    "bigint": ("int8send", ">i8"),
    "timestamptz": ("timestamptz_send", ">i8"),
    "uuid": ("uuid_send", "V16"),
}

Progress = Callable[[float], None]  # how much of the whole is done: 0 to 1


def pages_count(table: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_relation_size(%s) / current_setting('block_size')::bigint", [table]
        )
        [count] = cursor.fetchone()
    return int(count)


def stretches(
    table: str, columns: Mapping[str, str], *, where: str = "true", progress: Progress
) -> Iterator[Rows]:
    """All rows of a table; `columns` gives each column's kind: an expression of it, `AS` a name.

    The caller's transaction sees one state of the table from beginning to end.
    """
    pages = pages_count(table)
    for begin in range(0, pages, PAGES_AT_ONCE):
        end = begin + PAGES_AT_ONCE
        pages_of_it = f"ctid >= '({begin},0)' AND ctid < '({end},0)'"
        rows = read(f"{table} WHERE {pages_of_it} AND {where}", columns)
        if len(rows):
            yield rows
        progress(min(end, pages) / pages)


def read(source: str, columns: Mapping[str, str]) -> Rows:
    """The rows of `FROM source`, none of whose columns is ever null; up to a gigabyte.

    They come as one string of bytes that the server puts together: to take rows apart here, or
    to make an array of each column there, would cost more than all else.
    """
    parts = (f"{KINDS[kind][0]}({name.partition(' AS ')[0]})" for name, kind in columns.items())
    packed, count = raw(
        f"SELECT string_agg({' || '.join(parts)}, ''::bytea), count(*) FROM {source}"  # noqa: S608  all of it our own text
    )[0]
    layout = [(name.rpartition(" AS ")[2], KINDS[kind][1]) for name, kind in columns.items()]
    rows = np.frombuffer(packed or b"", layout)
    # A row with a null would have no bytes at all.
    assert len(rows) == int.from_bytes(count or b"", "big"), f"something of {source} is null"
    return rows.astype(rows.dtype.newbyteorder("="))


def raw(statement: str, **parameters: object) -> list[list[bytes | None]]:
    """The rows of a query in PostgreSQL's binary form."""
    with (
        connection.wrap_database_errors,
        psycopg.Cursor(connection.connection) as cursor,
    ):
        cursor.execute(statement.encode(), parameters, binary=True)
        result = cursor.pgresult
        assert result is not None
        return [
            [result.get_value(row, place) for place in range(result.nfields)]
            for row in range(result.ntuples)
        ]


def bytes_of(statement: str, **parameters: object) -> list[tuple[Any, ...]]:
    """The rows of a query with long bytes, which Django's own cursor would spell out as text."""
    with (
        connection.wrap_database_errors,
        psycopg.Cursor(connection.connection) as cursor,
    ):
        cursor.execute(statement.encode(), parameters, binary=True)
        return list(cursor.fetchall())
