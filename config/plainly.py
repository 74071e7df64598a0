"""A service that is missing or wrong is told in one sentence that says what to do."""

from collections.abc import Iterator
from contextlib import contextmanager

import kombu.exceptions
import psycopg
from django.db.utils import OperationalError

from config.embedded.server import EmbeddedDatabaseUnavailable
from config.environment import SettingInvalid, SettingMissing


@contextmanager
def told_plainly() -> Iterator[None]:
    """End the process with a sentence, rather than a traceback, if a service is what failed."""
    try:
        yield
    except (SettingMissing, SettingInvalid, EmbeddedDatabaseUnavailable) as error:
        raise SystemExit(f"error: {error}") from None
    except kombu.exceptions.OperationalError as error:
        raise SystemExit(f"error: {broker_trouble(error)}") from None
    except OperationalError as error:
        if not is_connection_failure(error):
            raise
        raise SystemExit(f"error: {database_trouble(error)}") from None


def is_connection_failure(error: BaseException) -> bool:
    """Whether there was no connection at all; a statement that failed has an SQLSTATE."""
    cause = error.__cause__
    return isinstance(cause, psycopg.OperationalError) and cause.sqlstate is None


def database_trouble(error: BaseException) -> str:
    reason = " ".join(str(error).split()).rstrip(".?")
    return (
        f"The database cannot be reached: {reason}. Start it or correct DATABASE_URL;"
        " without DATABASE_URL Runledger runs a PostgreSQL of its own."
    )


def broker_trouble(error: BaseException) -> str:
    reason = " ".join(str(error).split()).rstrip(".?")
    return (
        f"The broker cannot be reached: {reason}. Start it or correct CELERY_BROKER_URL;"
        " without CELERY_BROKER_URL the database is the broker."
    )
