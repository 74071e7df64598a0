"""A database of the bench's own, on the server of the settings; no one else's data is touched."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.core.management import call_command
from django.db import ProgrammingError, connection


@contextmanager
def own_database() -> Iterator[None]:
    """Make it, migrate it, connect to it; drop it in the end, whatever happens."""
    name = connection.settings_dict["NAME"]
    own = f"{name}_bench"
    _drop(own)
    with connection._nodb_cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {own}")
    connection.close()
    connection.settings_dict["NAME"] = own
    try:
        call_command("migrate", verbosity=0)
        yield
    finally:
        connection.close()
        connection.settings_dict["NAME"] = name
        _drop(own)


def is_durable() -> bool:
    """Whether a commit is on the disk when it is answered."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('fsync'), current_setting('synchronous_commit')")
        return bool(cursor.fetchone() == ("on", "on"))


def empty() -> None:
    """Empty the ledger's tables."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT string_agg(tablename, ', ') FROM pg_tables WHERE tablename LIKE 'ledger\\_%'"
        )
        [tables] = cursor.fetchone()
        cursor.execute(f"TRUNCATE {tables} CASCADE")
    checkpoint()


def checkpoint() -> None:
    """So that none falls into what is timed; only some users may ask for one."""
    with suppress(ProgrammingError), connection.cursor() as cursor:
        cursor.execute("CHECKPOINT")


def _drop(name: str) -> None:
    with connection._nodb_cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
