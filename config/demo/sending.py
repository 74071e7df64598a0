"""Send runs through the HTTP API, as a vendor's engineer would.

A body that was not acknowledged is sent again, for as long as RETRY_SECONDS_MAX: a server that
was killed and came back costs time, not runs, since the same run is debited once however often
it comes.
"""

import http.client
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from threading import Event, local
from typing import Any, Final
from urllib.parse import urlsplit

RUNS_PER_BODY: Final = 1_000
CONNECTIONS: Final = 4
RETRY_SECONDS_MAX: Final = 90.0
PAUSE_SECONDS: Final = 0.25


class NotTaken(Exception):
    """The API refused runs, or was away for too long."""


@dataclass(kw_only=True)
class Sent:
    """What the API acknowledged."""

    runs: dict[str, int] = field(default_factory=lambda: defaultdict(int))  # by account
    microtokens: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    seconds: float = 0.0

    @property
    def runs_count(self) -> int:
        return sum(self.runs.values())


def send(
    runs: Iterable[dict[str, Any]],
    *,
    web: str,
    secret: str,
    progress: Callable[[int], None] = lambda runs_count: None,
) -> Sent:
    """Send all runs, over a few connections. Raises NotTaken."""
    sent = Sent()
    sender = _Sender(web=web, secret=secret)
    began = time.monotonic()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        try:
            pending: set[Future[list[dict[str, Any]]]] = set()
            for body in _bodies(runs):
                pending.add(pool.submit(sender.post, body))
                if len(pending) >= 2 * CONNECTIONS:
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                    _count(done, sent, progress)
            _count(pending, sent, progress)
        except BaseException:
            # Ctrl-C, or a refusal: the others' patience is not waited for.
            sender.given_up.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    sent.seconds = time.monotonic() - began
    return sent


def _bodies(runs: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    iterator = iter(runs)
    while body := list(islice(iterator, RUNS_PER_BODY)):
        yield json.dumps({"runs": body}).encode()


def _count(
    answers: Iterable[Future[list[dict[str, Any]]]], sent: Sent, progress: Callable[[int], None]
) -> None:
    for answer in answers:
        runs = answer.result()
        for run in runs:
            sent.runs[run["account"]] += 1
            sent.microtokens[run["account"]] += run["microtokens"]
        progress(len(runs))


@dataclass(frozen=True, kw_only=True)
class _Sender:
    web: str
    secret: str
    kept: local = field(default_factory=local)
    given_up: Event = field(default_factory=Event)

    def post(self, body: bytes) -> list[dict[str, Any]]:
        """Send one body until it is acknowledged; the runs of the answer."""
        deadline = time.monotonic() + RETRY_SECONDS_MAX
        while True:
            try:
                status, answer = self._once(body)
            except (OSError, http.client.HTTPException) as error:
                self.kept.connection = None
                status, answer = 0, str(error).encode()
            if status == 202:
                return list(json.loads(answer)["runs"])
            if (status and status < 500) or time.monotonic() > deadline:
                raise NotTaken(f"{status or 'no answer'}: {answer[:500].decode(errors='replace')}")
            if self.given_up.wait(PAUSE_SECONDS):
                raise NotTaken("given up")

    def _once(self, body: bytes) -> tuple[int, bytes]:
        connection = getattr(self.kept, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection(urlsplit(self.web).netloc, timeout=30)
            self.kept.connection = connection
        headers = {"Authorization": f"Bearer {self.secret}", "Content-Type": "application/json"}
        connection.request("POST", "/api/v1/runs", body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
