"""A line to a service that can be cut, or go silent, and be mended: a broker out of reach."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CHUNK_BYTES = 65_536


class Line:
    """Takes connections at a port of its own and leads them to a Unix socket.

    A connection that went silent stays so, also when the line is mended: as if the machine that
    had it were gone for good, and another had taken its place.
    """

    def __init__(self, leads_to: Path) -> None:
        self.leads_to = leads_to
        self.port = 0
        self._taking: socket.socket | None = None
        self._ends: list[socket.socket] = []
        self._is_silent = threading.Event()  # of the connections that stand, and the next ones
        self._lock = threading.Lock()

    def mend(self) -> None:
        """Take connections, at the same port each time, and lead them."""
        with self._lock:
            self._is_silent = threading.Event()
        if self._taking is not None:
            return
        taking = socket.create_server(("127.0.0.1", self.port))
        self.port = taking.getsockname()[1]
        self._taking = taking
        threading.Thread(target=self._take, args=[taking], daemon=True).start()

    def go_silent(self) -> None:
        """Still take connections and all that is sent, and never answer."""
        self._is_silent.set()

    def cut(self) -> None:
        """Refuse new connections, and end all that stand."""
        assert self._taking is not None
        with self._lock:
            self._taking.shutdown(socket.SHUT_RDWR)
            self._taking.close()
            self._taking = None
            ends, self._ends = self._ends, []
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _take(self, taking: socket.socket) -> None:
        while True:
            try:
                near, _ = taking.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            try:
                far.connect(str(self.leads_to))
            except OSError:
                near.close()
                continue
            with self._lock:
                if self._taking is not taking:
                    near.close()
                    far.close()
                    return
                self._ends += [near, far]
                silent = self._is_silent
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=_lead, args=[one, other, silent], daemon=True).start()


def _lead(source: socket.socket, target: socket.socket, silent: threading.Event) -> None:
    with suppress(OSError):
        while chunk := source.recv(CHUNK_BYTES):
            if not silent.is_set():
                target.sendall(chunk)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextmanager
def line(leads_to: Path) -> Iterator[Line]:
    made = Line(leads_to)
    made.mend()
    try:
        yield made
    finally:
        with suppress(AssertionError):
            made.cut()
