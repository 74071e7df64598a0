"""What is well, what is not, and what to do: the checks of `manage.py doctor`.

Each check looks at one part and answers with findings. A *fail* stops the product from doing its
work; a *warning* is something that will.
"""

import os
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Literal
from urllib.parse import urlsplit
from uuid import uuid4

import requests
from django.conf import settings
from django.core import mail
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.utils import Error, OperationalError
from django.utils import timezone

from billing.stripe import troubles
from config.embedded import places
from config.embedded.server import EmbeddedDatabaseUnavailable
from config.models import Heartbeat
from config.plainly import broker_trouble, database_trouble, is_connection_failure
from config.tasks import heartbeat
from ledger import parking

Verdict = Literal["ok", "warn", "fail"]

PYTHON_MIN = (3, 11)
POSTGRESQL_MIN = 15
CLOCK_DIFFERENCE_MAX = timedelta(seconds=2)
BEAT_AGE_MAX = timedelta(minutes=1)
ANSWER_SECONDS_MAX = 5.0
DISK_BYTES_LOW = 5_000_000_000
DISK_BYTES_MIN = 500_000_000


@dataclass(frozen=True, kw_only=True)
class Finding:
    subject: str
    verdict: Verdict
    text: str

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def examine() -> Iterator[Finding]:
    """Every finding, as soon as it is there. What needs the database is left out without one."""
    yield from python()
    yield from home()
    yield from disk()
    reachable = False
    for finding in database():
        reachable = reachable or finding.verdict != "fail"
        yield finding
    if reachable:
        yield from clock()
        yield from migrations()
        yield from tasks()
        yield from calls_to_stripe()
        yield from unpriced_runs()
    yield from stripe()
    yield from mails()


def python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < PYTHON_MIN:
        yield _fail("python", f"Python {version} is too old: use 3.11 or later.")
    else:
        yield _ok("python", f"Python {version}")


def home() -> Iterator[Finding]:
    folder = places.home()
    probe = folder / f"probe-{uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        yield _fail("home", f"{folder} cannot be written ({error}): set RUNLEDGER_HOME to another.")
        return
    yield _ok("home", f"{folder}")
    secrets = folder / "secrets"
    if secrets.exists() and secrets.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield _warn("home", f"{secrets} can be read by others: chmod 700 it.")


def disk() -> Iterator[Finding]:
    folders = {places.home()} if settings.DATABASE_URL else {places.database_folder(places.home())}
    for folder in folders:
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(existing).free
        text = f"{free / 1e9:.1f} GB free at {existing}"
        if free < DISK_BYTES_MIN:
            yield _fail("disk", f"Only {text}: make room, or the database will stop.")
        elif free < DISK_BYTES_LOW:
            yield _warn("disk", f"Only {text}: make room soon.")
        else:
            yield _ok("disk", text)


def database() -> Iterator[Finding]:
    which = "DATABASE_URL" if settings.DATABASE_URL else "embedded"
    try:
        with connection.cursor() as cursor:
            cursor.execute("SHOW server_version_num")
            version = int(cursor.fetchone()[0]) // 10_000
            cursor.execute("SELECT pg_is_in_recovery()")
            (is_replica,) = cursor.fetchone()
    except EmbeddedDatabaseUnavailable as error:
        yield _fail("database", str(error))
    except OperationalError as error:
        told = database_trouble(error) if is_connection_failure(error) else str(error)
        yield _fail("database", told)
    else:
        if version < POSTGRESQL_MIN:
            yield _fail("database", f"PostgreSQL {version} is too old: use {POSTGRESQL_MIN} to 18.")
        elif is_replica:
            yield _fail("database", "This PostgreSQL is a read-only replica: name the primary.")
        else:
            yield _ok("database", f"PostgreSQL {version} ({which})")


def clock() -> Iterator[Finding]:
    before = timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        theirs: datetime = cursor.fetchone()[0]
    after = timezone.now()
    difference = max(before - theirs, theirs - after, timedelta(0))
    if difference > CLOCK_DIFFERENCE_MAX:
        seconds = difference.total_seconds()
        yield _warn(
            "clock",
            f"Our clock and the database's differ by {seconds:.0f} s: run NTP on both machines, as"
            " runs are debited by their time.",
        )
    else:
        yield _ok("clock", "agrees with the database's")


def migrations() -> Iterator[Finding]:
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if missing:
        yield _fail("migrations", f"{len(missing)} are not applied: run manage.py migrate.")
    else:
        yield _ok("migrations", "all applied")


def tasks() -> Iterator[Finding]:
    """Ask for a heartbeat, and see whether it comes; then look for beat's own, of its schedule."""
    asker = f"doctor-{uuid4().hex[:12]}"
    url = urlsplit(settings.CELERY_BROKER_URL)
    where = f"{url.scheme}://{url.hostname or ''}"
    try:
        heartbeat.apply_async((asker,), expires=60, retry=False)
    except Exception as error:  # noqa: BLE001 - each transport has its own ways to fail
        yield _fail("broker", broker_trouble(error))
        return
    yield _ok("broker", where)
    try:
        answered = _wait_for(Heartbeat.objects.filter(asker=asker).exists)
        yield (
            _ok("worker", "answers")
            if answered
            else _warn(
                "worker",
                f"None answered within {ANSWER_SECONDS_MAX:.0f} s: start one (manage.py up, or"
                " celery -A config worker). Runs are accepted and wait for it.",
            )
        )
        beaten_at = Heartbeat.objects.filter(asker="beat").values_list("done_at", flat=True).first()
        Heartbeat.objects.filter(asker=asker).delete()
    except Error as error:
        yield _fail("worker", f"The heartbeats cannot be read ({error}): run manage.py migrate.")
        return
    if beaten_at is not None and timezone.now() - beaten_at < BEAT_AGE_MAX:
        yield _ok("beat", "scheduled work is done")
    else:
        last = "yet" if beaten_at is None else f"since {beaten_at:%Y-%m-%d %H:%M} UTC"
        yield _warn(
            "beat",
            f"No scheduled work was done {last}: start celery -A config beat (manage.py up does),"
            " or nothing expires, closes or retries.",
        )


def calls_to_stripe() -> Iterator[Finding]:
    """Calls that Stripe refused, or whose outcome nobody knows: no worker repeats them."""
    try:
        count = troubles.standing(at=timezone.now()).count()
    except Error:  # migrations() has told why
        return
    if count:
        yield _warn(
            "stripe calls",
            f"{count} ended without success and wait for a person: open the admin's first page, or"
            " its list of Stripe calls, which name customer and remedy.",
        )
    else:
        yield _ok("stripe calls", "none waits for a person")


def unpriced_runs() -> Iterator[Finding]:
    """Runs that no rate prices: accepted, and not debited before somebody publishes one."""
    try:
        waits = parking.waits()
    except Error:  # migrations() has told why
        return
    if not waits:
        yield _ok("unpriced runs", "none waits for a price")
        return
    count = sum(wait.runs_count for wait in waits)
    first = waits[0]
    yield _warn(
        "unpriced runs",
        f"{count:,} wait for a price, the first since {first.since:%Y-%m-%d %H:%M} UTC:"
        f" {first.reason}. {first.remedy} The admin's first page lists them all.",
    )


def stripe() -> Iterator[Finding]:
    if settings.STRIPE_SIMULATED:
        yield _simulated_stripe()
    elif not settings.STRIPE_SECRET_KEY.startswith(("sk_", "rk_")):
        yield _fail("stripe", "STRIPE_SECRET_KEY is no secret key: it begins with sk_ or rk_.")
    elif not all(secret.startswith("whsec_") for secret in settings.STRIPE_WEBHOOK_SECRETS):
        yield _fail(
            "stripe",
            "STRIPE_WEBHOOK_SECRET is not one: it begins with whsec_ (several: with commas).",
        )
    elif not os.environ.get("STRIPE_WEBHOOK_SECRET"):
        yield _warn(
            "stripe",
            "STRIPE_WEBHOOK_SECRET is not set: `stripe listen` prints one; without it no payment"
            " is noticed before the nightly reconciliation.",
        )
    elif "_live_" not in settings.STRIPE_SECRET_KEY:
        yield _ok("stripe", "test key")
    elif settings.STRIPE_API_BASE:
        yield _fail("stripe", "A live key is sent to STRIPE_API_BASE: unset one of the two.")
    else:
        yield _ok("stripe", "live key")


def _simulated_stripe() -> Finding:
    base = settings.SERVICES_UP.get("stripe")
    if not base:
        return _warn("stripe", "The simulator is not running: manage.py up runs it.")
    try:
        requests.get(base, timeout=5)
    except requests.RequestException:
        return _fail("stripe", f"The simulator at {base} does not answer: restart manage.py up.")
    return _ok("stripe", f"simulated at {base}")


def mails() -> Iterator[Finding]:
    kind = settings.EMAIL_BACKEND.split(".")[-2]
    if kind == "filebased":
        yield _ok("mail", f"written to {os.environ.get('EMAIL_URL') or places.home() / 'mail'}")
    elif kind == "console":
        yield _warn("mail", "Mail is printed, not sent: set EMAIL_URL to a mail server.")
    else:
        where = f"{settings.EMAIL_HOST}:{settings.EMAIL_PORT}"
        try:
            mail.get_connection(timeout=5).open()
        except OSError as error:
            yield _fail("mail", f"{where} does not take mail ({error}): correct EMAIL_URL.")
        else:
            yield _ok("mail", where)


def _wait_for(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + ANSWER_SECONDS_MAX
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _ok(subject: str, text: str) -> Finding:
    return Finding(subject=subject, verdict="ok", text=text)


def _warn(subject: str, text: str) -> Finding:
    return Finding(subject=subject, verdict="warn", text=text)


def _fail(subject: str, text: str) -> Finding:
    return Finding(subject=subject, verdict="fail", text=text)
