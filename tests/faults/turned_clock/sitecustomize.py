"""Turns the wall clock of every Python process that has this folder in PYTHONPATH.

By as many seconds as the file says that TURNED_CLOCK names, as soon as it says so, in processes
that run already too: each looks at the file all the time. The monotonic clock goes on.
"""

import os
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import time_machine

LOOK_SECONDS = 0.05


class Clock:
    def __init__(self, told_by: Path) -> None:
        self.told_by = told_by
        self.seconds = 0.0
        self.turned: time_machine.travel | None = None

    def turn(self) -> None:
        """Turn it if the file says something new. None: as yet, or no more."""
        seconds = float(self.told_by.read_text() or 0) if self.told_by.exists() else 0.0
        if seconds == self.seconds:
            return
        if self.turned is not None:
            self.turned.stop()
            self.turned = None
        self.seconds = seconds
        if seconds:
            then = datetime.now(UTC) + timedelta(seconds=seconds)
            self.turned = time_machine.travel(then, tick=True)
            self.turned.start()

    def follow(self) -> None:
        self.turn()
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        while True:
            time.sleep(LOOK_SECONDS)
            self.turn()


clock = Clock(Path(os.environ["TURNED_CLOCK"]))
clock.follow()
os.register_at_fork(after_in_child=clock.follow)
