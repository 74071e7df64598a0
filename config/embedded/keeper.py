"""The process that keeps one embedded PostgreSQL: `python -m config.embedded.keeper`.

Started by `server.ensure()`, once a home. It answers for PostgreSQL's whole life: prepares its
folder, runs it, starts it again when it dies while somebody uses it, and stops it when nobody
does. Killed itself, PostgreSQL goes down with it (postgresql.py), and the next user starts both.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from config.embedded import locks, places
from config.embedded.postgresql import CannotRun, PostgreSQL

POLL_SECONDS = 0.2
LOCK_SECONDS_MAX = 2.0
PAUSE_SECONDS_MAX = 5.0
FIRST_ATTEMPTS_MAX = 6


class Keeper:
    """One server and the lock of its users."""

    def __init__(self, home: Path) -> None:
        self.postgresql = PostgreSQL(home)
        self.lock = places.users_lock(home)
        self.users = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.asked_to_stop = False
        signal.signal(signal.SIGTERM, self._ask_to_stop)

    def keep(self) -> None:
        """Run the server until nobody uses it. Raises CannotRun if it does not come up.

        The first attempts may fail: processes of a server that was killed take a moment to go.
        """
        self.postgresql.prepare()
        pause, failures, has_been_up = 0.0, 0, False
        while not self._is_over():
            server = self.postgresql.start()
            came_up = self._watch(server)
            if self.asked_to_stop:
                return
            has_been_up = has_been_up or came_up
            failures = 0 if came_up else failures + 1
            if failures == FIRST_ATTEMPTS_MAX and not has_been_up:
                raise CannotRun("PostgreSQL ended each time it was started")
            pause = 0.0 if came_up else min(PAUSE_SECONDS_MAX, 2 * pause + 0.1)
            say(f"PostgreSQL ended ({server.returncode}): it is started again")
            time.sleep(pause)

    def _watch(self, server: "subprocess.Popen[bytes]") -> bool:
        """Until the server ends by itself or is over: whether it took connections at all."""
        came_up = False
        while server.poll() is None:
            came_up = came_up or self.postgresql.is_ready()
            if self._is_over():
                self.asked_to_stop = True
                self.postgresql.stop(server)
            else:
                time.sleep(POLL_SECONDS)
        return came_up

    def _is_over(self) -> bool:
        """Nobody uses the server, its home was deleted, or the machine is going down.

        If it is over because the lock came free, we have it now: new users wait for our end.
        """
        return (
            self.asked_to_stop
            or locks.upgrade(self.users)
            or not locks.still_there(self.users, self.lock)
        )

    def _ask_to_stop(self, _signal: int, _frame: FrameType | None) -> None:
        self.asked_to_stop = True


def say(line: str) -> None:
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    print(f"{moment} keeper: {line}", file=sys.stderr, flush=True)  # noqa: T201


def take_lock(path: Path) -> int | None:
    """Our own lock. Somebody may be looking at it for an instant: `locks.is_held`."""
    deadline = time.monotonic() + LOCK_SECONDS_MAX
    while (descriptor := locks.take(path)) is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return descriptor


def main() -> None:
    home = places.home()
    own = take_lock(places.keeper_lock(home))
    if own is None or os.fork():  # the parent ends at once; whoever started it waits for that
        return
    os.chdir("/")
    try:
        Keeper(home).keep()
    except (CannotRun, OSError) as error:
        say(f"error: {error}")
    finally:
        # Before the lock of the users, on which the next of them waits: it must see us gone.
        os.close(own)


if __name__ == "__main__":
    main()
