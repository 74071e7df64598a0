"""Using the embedded database: `ensure()`, and nothing else to remember."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg

from config.embedded import locks, places

READY_SECONDS_MAX = 60.0

_mutex = threading.Lock()
_joined: dict[Path, int] = {}


class EmbeddedDatabaseUnavailable(Exception):
    """The embedded PostgreSQL does not run, and could not be started."""

    def __init__(self, home: Path, reason: str) -> None:
        super().__init__(
            f"The embedded PostgreSQL of {home} does not start: {reason}."
            f" Its log is {places.log(home, 'postgresql')};"
            " another server can be named with DATABASE_URL."
        )


def ensure() -> None:
    """Find or start the embedded database, and keep it running while this process lives.

    Cheap when it runs already, safe from several threads and processes at once, and safe to call
    again: before each connection, so that a keeper that was killed is replaced.
    Raises EmbeddedDatabaseUnavailable.
    """
    home = places.home()
    with _mutex:
        try:
            _join(home)
            if locks.is_held(places.keeper_lock(home)):
                return
            with locks.held(places.start_lock(home)):
                if not locks.is_held(places.keeper_lock(home)):
                    _start_keeper(home)
        except OSError as error:
            raise EmbeddedDatabaseUnavailable(home, str(error)) from error
    wait_until_ready()


def wait_until_ready() -> None:
    """Wait until the server takes connections: it may be starting, or recovering from a crash."""
    home = places.home()
    deadline = time.monotonic() + READY_SECONDS_MAX
    while True:
        try:
            psycopg.connect(places.connection_string(home), connect_timeout=5).close()
        except psycopg.OperationalError as error:
            if not locks.is_held(places.keeper_lock(home)):
                raise EmbeddedDatabaseUnavailable(home, last_complaint(home)) from error
            if time.monotonic() > deadline:
                raise EmbeddedDatabaseUnavailable(home, str(error).strip()) from error
            time.sleep(0.02)
        else:
            return


def leave() -> None:
    """Stop being a user; if we were the last, return when the server has stopped.

    A process that just ends has the same effect, only without waiting for it.
    """
    home = places.home()
    with _mutex:
        descriptor = _joined.pop(home, None)
    if descriptor is None:
        return
    os.close(descriptor)
    deadline = time.monotonic() + READY_SECONDS_MAX
    while locks.is_held(places.keeper_lock(home)) and time.monotonic() < deadline:
        if locks.is_shared(places.users_lock(home)):
            return
        time.sleep(0.02)


def last_complaint(home: Path) -> str:
    """The last line of the log that tells of an error, without its date."""
    try:
        lines = places.log(home, "postgresql").read_text(errors="replace").splitlines()[-200:]
    except OSError as error:
        return str(error)
    for sign in ("FATAL:", "error:"):  # PostgreSQL's own reason tells more than the keeper's
        complaints = [line for line in lines if sign in line and "is starting up" not in line]
        if complaints:
            return complaints[-1].partition(sign)[2].strip().rstrip(".")
    return "its log names no error"


def _join(home: Path) -> None:
    """Become a user. While a keeper is on its way out this waits until it is gone."""
    descriptor = _joined.get(home)
    if descriptor is not None and locks.still_there(descriptor, places.users_lock(home)):
        return
    home.mkdir(parents=True, exist_ok=True)
    places.log(home, "postgresql").parent.mkdir(exist_ok=True)
    taken = locks.take(places.users_lock(home), shared=True, wait=True)
    assert taken is not None, "waiting ends with the lock"
    # A fork inherits the lock. It is then free when the last of the family has ended: as it should.
    _joined[home] = taken


def _start_keeper(home: Path) -> None:
    """Returns when the keeper has its lock; it goes on by itself, out of this process's session."""
    with places.log(home, "postgresql").open("ab") as output:
        finished = subprocess.run(
            [sys.executable, "-m", "config.embedded.keeper"],
            cwd=places.CHECKOUT,
            env=os.environ | {"RUNLEDGER_HOME": str(home)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            check=False,
        )
    if finished.returncode != 0:
        raise EmbeddedDatabaseUnavailable(home, last_complaint(home))
