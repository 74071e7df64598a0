"""Say which shards have work, some times a second, for a web process that takes runs all day.

A request tells its shards and goes on; a thread announces them to the workers. Those in which older
runs still wait have been announced: it looks at them again a moment later, and announces them if
theirs are debited and these are not. So the busier the workers are, the fewer messages they get,
and the more they find at a time. What is lost, a sweep finds.
"""

import threading
import time
from collections.abc import Mapping
from typing import Final, NamedTuple

import structlog
from django.db import Error, close_old_connections, connection

from ledger import sql, tasks

PAUSE_SECONDS: Final = 0.05
IDLE_SECONDS: Final = 0.1
FINISH_SECONDS_MAX: Final = 10.0
# Then a sweep has announced them.
LOOKED_AT_AGAIN_SECONDS: Final = 10.0

_log = structlog.get_logger(__name__)


class Told(NamedTuple):
    """The oldest intake of a shard that is not announced, and until when it is looked at."""

    intake_id: int
    until: float

    def with_other(self, other: "Told") -> "Told":
        """One entry for both: for the older one, and until the later one is looked at no more."""
        return Told(min(self.intake_id, other.intake_id), max(self.until, other.until))


class Waker:
    """`tell` is for any thread. The thread that announces ends with the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told: dict[int, Told] = {}
        self._is_told = threading.Event()
        self._is_idle = threading.Event()
        self._is_hurried = False
        self._thread: threading.Thread | None = None

    def tell(self, intakes: Mapping[int, int]) -> None:
        """These intakes, by shard, are committed."""
        until = time.monotonic() + LOOKED_AT_AGAIN_SECONDS
        with self._lock:
            self._add({shard: Told(intake_id, until) for shard, intake_id in intakes.items()})
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="waker", daemon=True)
                self._thread.start()
        self._is_idle.clear()
        self._is_told.set()

    def finish(self) -> None:
        """For tests: look once more, forget what is left, and wait until the connection is closed.

        Only a test may forget: its database is emptied.
        """
        if self._thread is not None:
            self._is_hurried = True
            self._is_told.set()
            self._is_idle.wait(FINISH_SECONDS_MAX)

    def _add(self, told: Mapping[int, Told]) -> None:
        for shard, one in told.items():
            self._told[shard] = one.with_other(self._told.get(shard, one))

    def _run(self) -> None:
        while True:
            if not self._is_told.wait(IDLE_SECONDS):
                self._rest()
            self._is_told.clear()
            with self._lock:
                told, self._told = self._told, {}
            if told:
                self._look_again(_left(told))
            if self._is_hurried:
                self._is_hurried = False
                with self._lock:
                    self._told = {}
                self._rest()
            time.sleep(PAUSE_SECONDS)

    def _look_again(self, told: Mapping[int, Told]) -> None:
        now = time.monotonic()
        with self._lock:
            self._add({shard: one for shard, one in told.items() if one.until > now})
            if self._told:
                self._is_told.set()

    def _rest(self) -> None:
        connection.close()
        with self._lock:
            if not self._told:
                self._is_idle.set()
        self._is_told.wait()


WAKER: Final = Waker()


def _left(told: Mapping[int, Told]) -> Mapping[int, Told]:
    """Announce; those that are left. The thread must outlive whatever happens."""
    try:
        looked = _with_connection(told)
        tasks.wake(looked.unknown)
    except Exception as error:  # noqa: BLE001
        _log.exception("not announced, looked at again", error=str(error))
        return told
    return looked.left


def _with_connection(told: Mapping[int, Told]) -> "Looked":
    """As `look`, with a connection that works; one of a pool goes back to it."""
    close_old_connections()
    try:
        return look(told)
    finally:
        if connection.settings_dict["CONN_MAX_AGE"] == 0:
            connection.close()


class Looked(NamedTuple):
    """Shards of which nobody knows, and those in which older runs wait. In the others none do."""

    unknown: list[int]
    left: dict[int, Told]


def look(told: Mapping[int, Told]) -> Looked:
    """Who waits in them? If the database is away, all are unknown."""
    try:
        waiting = dict(sql.rows("oldest_waiting", shards=list(told)))
    except Error as error:
        _log.warning("database away: all are announced", error=str(error))
        waiting = {shard: one.intake_id for shard, one in told.items()}
    return Looked(
        [shard for shard, oldest in waiting.items() if oldest >= told[shard].intake_id],
        {shard: told[shard] for shard, oldest in waiting.items() if oldest < told[shard].intake_id},
    )
