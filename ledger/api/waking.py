"""Say which shards have work, some times a second, for a web process that takes runs all day.

A request tells its shards and goes on; a thread announces them to the workers. It leaves out those
in which older runs still wait: these have been announced. So the busier the workers are, the
fewer messages they get, and the more they find at a time. What is lost, a sweep finds.
"""

import threading
import time
from collections.abc import Mapping
from typing import Final

import structlog
from django.db import Error, close_old_connections, connection

from ledger import sql, tasks

PAUSE_SECONDS: Final = 0.05
IDLE_SECONDS: Final = 0.1
FINISH_SECONDS_MAX: Final = 10.0

_log = structlog.get_logger(__name__)


class Waker:
    """`tell` is for any thread. The thread that announces ends with the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._oldest: dict[int, int] = {}
        self._is_told = threading.Event()
        self._is_idle = threading.Event()
        self._is_hurried = False
        self._thread: threading.Thread | None = None

    def tell(self, intakes: Mapping[int, int]) -> None:
        """These intakes, by shard, are committed."""
        with self._lock:
            for shard, intake_id in intakes.items():
                self._oldest[shard] = min(intake_id, self._oldest.get(shard, intake_id))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="waker", daemon=True)
                self._thread.start()
        self._is_idle.clear()
        self._is_told.set()

    def finish(self) -> None:
        """Wait until all that was told is announced, and the thread has closed its connection."""
        if self._thread is not None:
            self._is_hurried = True
            self._is_told.set()
            self._is_idle.wait(FINISH_SECONDS_MAX)

    def _run(self) -> None:
        while True:
            if not self._is_told.wait(IDLE_SECONDS):
                self._rest()
            self._is_told.clear()
            with self._lock:
                oldest, self._oldest = self._oldest, {}
            if oldest:
                tasks.wake(_unannounced(oldest))
            if self._is_hurried:
                self._is_hurried = False
                self._rest()
            time.sleep(PAUSE_SECONDS)

    def _rest(self) -> None:
        connection.close()
        with self._lock:
            if not self._oldest:
                self._is_idle.set()
        self._is_told.wait()


WAKER: Final = Waker()


def _unannounced(oldest: Mapping[int, int]) -> list[int]:
    close_old_connections()
    try:
        rows = sql.rows("unannounced_shards", shards=list(oldest), ids=list(oldest.values()))
        return [shard for (shard,) in rows]
    except Error as error:
        _log.warning("database away: all are announced", error=str(error))
        return list(oldest)
    finally:
        if connection.settings_dict["CONN_MAX_AGE"] == 0:
            connection.close()
