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

# What a column is in PostgreSQL's binary form and in numpy's.
KINDS: Final = {"smallint": "i2", "integer": "i4", "bigint": "i8", "uuid": "V16"}

# Of an array in binary form: dimensions, whether there are nulls, type, length, lower bound. Then
# its elements, each after its size.
_ARRAY_HEADER_BYTES: Final = 20

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
    """The rows of `FROM source`, none of whose columns is ever null.

    A column comes as one array: a row of its own for each would cost more than all else.
    """
    arrays = ", ".join(f"array_agg({name.partition(' AS ')[0]})" for name in columns)
    [packed] = raw(f"SELECT {arrays} FROM {source}")  # noqa: S608  all of it our own text
    names = [name.rpartition(" AS ")[2] for name in columns]
    kinds = [KINDS[kind] for kind in columns.values()]
    found = [
        np.frombuffer(column or b"", _element(kind), offset=_ARRAY_HEADER_BYTES if column else 0)
        for column, kind in zip(packed, kinds, strict=True)
    ]
    rows = np.empty(len(found[0]), list(zip(names, kinds, strict=True)))
    for name, column in zip(names, found, strict=True):
        rows[name] = column["value"]
    return rows


def _element(kind: str) -> np.dtype[np.void]:
    return np.dtype([("size", ">i4"), ("value", kind if kind[0] == "V" else f">{kind}")])


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
