"""The next rows are read while the last are looked at, on a connection of their own."""

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor

from django.db import connection, transaction

from ledger import sql
from ledger.packing import Rows


def exported_snapshot() -> str:
    """A name by which another transaction can see what this one sees, while this one lasts."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_export_snapshot()")
        [name] = cursor.fetchone()
    return str(name)


def read_ahead(rows: Iterator[Rows], *, snapshot: str) -> Iterator[Rows]:
    """The same rows: each stretch is asked for while the one before is in the caller's hands."""
    reading = _on_own_connection(rows, snapshot)
    with ThreadPoolExecutor(1) as other:
        try:
            coming = other.submit(next, reading, None)
            while (found := coming.result()) is not None:
                coming = other.submit(next, reading, None)
                yield found
        finally:
            # In its own thread, to which the connection belongs.
            other.submit(reading.close)


def _on_own_connection(rows: Iterator[Rows], snapshot: str) -> Generator[Rows, None, None]:
    try:
        with transaction.atomic():
            sql.see_one_state()
            with connection.cursor() as cursor:
                cursor.execute(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
            yield from rows
    finally:
        connection.close()
