"""What all tests share. The database is DATABASE_URL's server, else the embedded one, which the
engine of the settings starts at the first connection."""

import os
from collections.abc import Iterator

import pytest
from django.db import connection
from hypothesis import HealthCheck, Phase, settings

from billing.invariants import violations as billing_violations
from ledger.api.waking import WAKER
from ledger.invariants import violations

settings.register_profile(
    "default", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.register_profile("nightly", settings.get_profile("default"), max_examples=2_000)
settings.register_profile(
    "mutation",
    settings.get_profile("default"),
    phases=[Phase.generate],
    report_multiple_bugs=False,  # one will do
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


# Files of a few long tests: begun first, so that no process is left alone with one at the end.
LONG = (
    "test_replay_kills.py",
    "test_older_postgresql.py",
    "test_services_up.py",
    "test_services_database.py",
    "test_disk_full.py",
    "test_broker_restart.py",
    "test_demo_refusals.py",
    "test_journeys.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The order of files; within a file nothing moves."""
    place = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONG)))


@pytest.fixture(autouse=True)
def ledger_stays_sound(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a test that has the database did in it, every invariant holds when it is done."""
    if not _has_database(request):
        yield
        return
    # Asked for here, so that what is checked is still there afterwards.
    request.getfixturevalue("_django_db_helper")
    yield
    WAKER.finish()
    try:
        assert violations() == {}
        assert billing_violations() == {}
    finally:
        if _commits(request):
            _empty_own_tables()


def _has_database(request: pytest.FixtureRequest) -> bool:
    return "_django_db_helper" in request.fixturenames or (
        request.node.get_closest_marker("django_db") is not None
    )


def _commits(request: pytest.FixtureRequest) -> bool:
    marker = request.node.get_closest_marker("django_db")
    return (
        "transactional_db" in request.fixturenames
        or "live_server" in request.fixturenames
        or (marker is not None and bool(marker.kwargs.get("transaction")))
    )


def _empty_own_tables() -> None:
    """Empty what a committing test leaves: Django's own flush knows only the tables it made."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT string_agg(quote_ident(tablename), ', ') FROM pg_tables
            WHERE schemaname = current_schema AND tablename ~ '^(ledger|billing)_'
            """
        )
        [tables] = cursor.fetchone()
        # Sequences go on: what caches by an id never meets that id again.
        cursor.execute(f"TRUNCATE {tables} CASCADE")
