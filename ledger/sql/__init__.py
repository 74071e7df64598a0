"""The ledger's statements, one a file.

A file's header says what the statement does, what locks its caller must hold, its parameters
and the columns of a row. `query` binds those columns, by name, to a frozen dataclass: a
column too many or too few is a TypeError in the first test that runs the statement.
"""

from functools import cache
from importlib.resources import files
from typing import Any, TypeVar

from django.db import connection

Row = TypeVar("Row")


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


def lock_shard(shard: int) -> None:
    """Become the only writer of a shard until the transaction ends. Waits for the one before."""
    assert connection.in_atomic_block, "a shard is locked inside transaction.atomic()"
    execute("lock_shard", shard=shard)
