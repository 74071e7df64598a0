"""What all tests share. The database is DATABASE_URL's server, else the embedded one, which the
engine of the settings starts at the first connection."""

import gc
import os
from collections.abc import Iterator

import pytest
from django.db import connection
from django.test import TransactionTestCase
from hypothesis import HealthCheck, Phase, settings
from pytest_django import DjangoDbBlocker

from billing.invariants import CHECKS as CHECKS_OF_BILLING
from billing.invariants import INVARIANTS as RULES_OF_BILLING
from billing.invariants import violations as billing_violations
from ledger.api.waking import WAKER
from ledger.invariants import CHECKS, INVARIANTS, violations, walk

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
    "test_serving.py",
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


# Every rule that is a query, in one round trip, as a function of the database of the tests: the
# server keeps its plans. To plan the rules anew takes longer than many a test.
_FUNCTION = """
    CREATE OR REPLACE FUNCTION broken_rules() RETURNS SETOF text LANGUAGE plpgsql AS $function$
    BEGIN
        {asked}
    END $function$
"""
_ASKED = "IF EXISTS ({statement}) THEN RETURN NEXT $name${name}$name$; END IF;"
# DELETE: to TRUNCATE that many tables, and their indexes, takes a hundred times as long. Behind the
# back of the triggers that keep records as they are. Sequences go on: what caches by an id never
# meets that id again.
_EMPTY = """
    DO $$
    DECLARE of_us text;
    BEGIN
        PERFORM set_config('session_replication_role', 'replica', true);
        FOR of_us IN
            SELECT quote_ident(tablename) FROM pg_tables
            WHERE schemaname = current_schema AND tablename NOT IN
                ('django_migrations', 'django_content_type', 'auth_permission')
        LOOP
            EXECUTE 'DELETE FROM ' || of_us;
        END LOOP;
    END $$
"""


def pytest_collection_finish() -> None:
    """What is there by now stays to the end: the collector need not look at it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Tests that commit are cleaned up after by `_EMPTY`, which knows all tables; Django's own
    flush knows only those it made, and takes its time."""
    rules = INVARIANTS | {
        name: statement.replace("%%", "%") for name, statement in RULES_OF_BILLING.items()
    }
    asked = (_ASKED.format(statement=rules[name], name=name) for name in rules)
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        if cursor.fetchone() != (True,):
            pytest.exit("The tests break records on purpose: their database's user is a superuser.")
        cursor.execute(_FUNCTION.format(asked="\n".join(asked)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", lambda _: _run(_EMPTY))
        yield


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
    if broken := broken_rules():
        assert violations() == {}
        assert billing_violations() == {}
        pytest.fail(f"{broken} are broken, and are not when they are asked one by one")


def _has_database(request: pytest.FixtureRequest) -> bool:
    return "_django_db_helper" in request.fixturenames or (
        request.node.get_closest_marker("django_db") is not None
    )


def broken_rules() -> set[str]:
    """The names of the rules that do not hold, the ledger's and billing's."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT broken_rules()")
        broken = {name for (name,) in cursor.fetchall()}
    return (
        broken
        | set(walk.broken())
        | {name for name, check in (CHECKS | CHECKS_OF_BILLING).items() if check()}
    )


def _run(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)
