"""Runs through the API: web, worker and PostgreSQL together, and the client too, on this machine.

The services are those of `manage.py up`, on the bench's own database. A client holds a few
connections open and sends bodies that were encoded before, the next as soon as one is answered.
`acknowledged` is what it had answers for in that time; `debited` is the same runs until the last
of them was visible. How long a run takes from its acknowledgement until it is visible is asked of
probes: single runs, sent one after the other, while nothing else or half of that load comes in.
"""

import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Final
from urllib.parse import quote, urlsplit

import msgspec
from django.db import connection
from django.utils import timezone

from bench import database
from bench.accept import ACCOUNTS, BATCH_RUNS, METERS, make_book
from bench.figures import Figure
from ledger import access, accounts
from ledger.accounts import AccountFacts

CHECKOUT: Final = Path(__file__).resolve().parent.parent
BODIES_PER_BATCH: Final = 15  # of the bench's option: 20 batches are 300 bodies
SINGLES_PER_BATCH: Final = 500
WARM_UP_BODIES: Final = 30
CONNECTIONS: Final = 4
SINGLES_CONNECTIONS: Final = 64
PROBES: Final = 200
PROBE_SECONDS: Final = 0.04
POLL_SECONDS: Final = 0.005

ACKNOWLEDGED_BAR: Final = 60_000
DEBITED_BAR: Final = 40_000
SINGLES_BAR: Final = 2_500
LATENCY_BAR_MS: Final = 1_000


def measure(*, batches: int, repetitions: int) -> Iterator[Figure]:
    database.empty()
    book_id = make_book()
    secret = access.issue_api_key(book_id=book_id, name="bench", at=timezone.now()).secret
    codes = [f"account-{number}" for number in range(ACCOUNTS)]
    found = accounts.find_all(book_id=book_id, codes=codes)
    with services() as web:
        bench = _Bench(web=web, secret=secret, accounts=[found[code] for code in codes])
        bench.load(bench.bodies(WARM_UP_BODIES), connections=CONNECTIONS)
        bench.load(bench.singles(WARM_UP_BODIES), connections=CONNECTIONS)
        yield from bench.latencies("idle", [], rate=1)
        loads = [
            bench.load(bench.bodies(batches * BODIES_PER_BATCH), connections=CONNECTIONS)
            for _ in range(repetitions)
        ]
        singles = [
            bench.load(bench.singles(batches * SINGLES_PER_BATCH), connections=SINGLES_CONNECTIONS)
            for _ in range(repetitions)
        ]
        yield from _rates(loads, singles)
        half = median(one.acknowledged for one in loads) / BATCH_RUNS / 2
        bodies = bench.bodies(round(half * PROBES * PROBE_SECONDS))
        yield from bench.latencies(f"half load, {BATCH_RUNS:,} runs a body", bodies, rate=half)
        half = median(one.acknowledged for one in singles) / 2
        bodies = bench.singles(round(half * PROBES * PROBE_SECONDS))
        yield from bench.latencies("half load, one run a body", bodies, rate=half)


def _rates(loads: Sequence["_Load"], singles: Sequence["_Load"]) -> Iterator[Figure]:
    of_bodies = f"http, {BATCH_RUNS:,} runs a body"
    for name, bar, values in (
        (f"{of_bodies}: acknowledged", ACKNOWLEDGED_BAR, [one.acknowledged for one in loads]),
        (f"{of_bodies}: debited", DEBITED_BAR, [one.debited for one in loads]),
        ("http, one run a body: acknowledged", SINGLES_BAR, [one.acknowledged for one in singles]),
        ("http, one run a body: debited", None, [one.debited for one in singles]),
    ):
        yield Figure(name=name, value=median(values), unit="runs/s", least=bar)


@dataclass(frozen=True, kw_only=True)
class _Load:
    """Runs a second, until the last answer and until the last debit."""

    acknowledged: float
    debited: float


@dataclass(kw_only=True)
class _Bench:
    """A client of the services, who may also look into their database."""

    web: str
    secret: str
    accounts: Sequence[AccountFacts]
    sent_count: int = 0

    def bodies(self, count: int) -> list[bytes]:
        return [
            self._request({"runs": [self._run() for _ in range(BATCH_RUNS)]}) for _ in range(count)
        ]

    def singles(self, count: int) -> list[bytes]:
        return [self._request(self._run()) for _ in range(count)]

    def load(self, requests: list[bytes], *, connections: int) -> _Load:
        """Send all of them as fast as they are answered, and wait until all is debited."""
        before = _debited_count()
        runs_count = self.sent_count - before
        begin = time.perf_counter()
        _Client(self.web).send(requests, connections=connections)
        acknowledged = time.perf_counter() - begin
        while _debited_count() < self.sent_count:
            time.sleep(POLL_SECONDS)
        debited = time.perf_counter() - begin
        return _Load(acknowledged=runs_count / acknowledged, debited=runs_count / debited)

    def latencies(self, name: str, requests: list[bytes], *, rate: float) -> Iterator[Figure]:
        """The probes' time from acknowledgement to debit, beside `rate` requests a second."""
        load = threading.Thread(
            target=_Client(self.web).send,
            args=(requests,),
            kwargs={"connections": SINGLES_CONNECTIONS, "rate": rate},
        )
        load.start()
        milliseconds = [1000 * one for one in self._probe()]
        load.join()
        while _debited_count() < self.sent_count:
            time.sleep(POLL_SECONDS)
        for word, value, bar in (
            ("p50", median(milliseconds), None),
            ("p99", quantiles(milliseconds, n=100)[98], LATENCY_BAR_MS),
        ):
            yield Figure(
                name=f"acknowledged to debited, {name}: {word}", value=value, unit="ms", most=bar
            )

    def _probe(self) -> list[float]:
        client = _Client(self.web)
        waiting: list[_Probe] = []
        seconds: list[float] = []
        for _ in range(PROBES):
            until = time.perf_counter() + PROBE_SECONDS
            account = self.accounts[self.sent_count * 7 % ACCOUNTS]
            run = self._run()
            client.send([self._request(run)], connections=1)
            waiting.append(_Probe(account, uuid.UUID(str(run["id"])), time.perf_counter()))
            while time.perf_counter() < until:
                seconds += _arrived(waiting)
                time.sleep(POLL_SECONDS)
        while waiting:
            seconds += _arrived(waiting)
            time.sleep(POLL_SECONDS)
        return seconds

    def _run(self) -> dict[str, object]:
        number = self.sent_count
        self.sent_count += 1
        return {
            "id": str(_time_ordered_id(number)),
            "account": self.accounts[number * 7 % ACCOUNTS].code,
            "workflow": "review",
            "occurred_at": timezone.now(),
            "inferences": [
                {
                    "engine": "engine",
                    "quantities": dict.fromkeys(METERS, number % 1_000 + 1),
                }
            ],
        }

    def _request(self, body: object) -> bytes:
        encoded = msgspec.json.encode(body)
        head = (
            f"POST /api/v1/runs HTTP/1.1\r\nHost: {urlsplit(self.web).netloc}\r\n"
            f"Authorization: Bearer {self.secret}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(encoded)}\r\n\r\n"
        )
        return head.encode() + encoded


def _time_ordered_id(number: int) -> uuid.UUID:
    """A UUID of version 7, each greater than the one before."""
    milliseconds = time.time_ns() // 1_000_000
    return uuid.UUID(int=milliseconds << 80 | 7 << 76 | 0b10 << 62 | number)


def _debited_count() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(sum(runs_count), 0) FROM ledger_block")
        [count] = cursor.fetchone()
    return int(count)


@dataclass(frozen=True, slots=True)
class _Probe:
    """A run that is acknowledged, and when that was."""

    account: AccountFacts
    run_key: uuid.UUID
    acknowledged: float


def _arrived(waiting: list[_Probe]) -> list[float]:
    """Take out those that are debited by now: for how many seconds they waited."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT asked.run_key
            FROM unnest(%s::smallint[], %s::bigint[], %s::uuid[])
                AS asked (shard, account_id, run_key)
            WHERE EXISTS (
                SELECT FROM ledger_run AS run
                WHERE run.shard = asked.shard AND run.account_id = asked.account_id
                  AND run.run_key = asked.run_key
            )
            """,
            [
                [one.account.shard for one in waiting],
                [one.account.id for one in waiting],
                [one.run_key for one in waiting],
            ],
        )
        now = time.perf_counter()
        debited = {run_key for (run_key,) in cursor.fetchall()}
    seconds = [now - one.acknowledged for one in waiting if one.run_key in debited]
    waiting[:] = [one for one in waiting if one.run_key not in debited]
    return seconds


class _Client:
    """Sends requests over connections that stay open, from one thread."""

    def __init__(self, web: str) -> None:
        address = urlsplit(web)
        self._address = (address.hostname or "", address.port or 80)

    def send(
        self, requests: Sequence[bytes], *, connections: int, rate: float | None = None
    ) -> None:
        """Each must be answered by 202. `rate` a second, or as fast as they are answered."""
        with selectors.DefaultSelector() as selector:
            free = [self._connect(selector) for _ in range(min(connections, len(requests)))]
            every = [*free]
            begin = time.perf_counter()
            answered = sent = 0
            while answered < len(requests):
                due = _due(len(requests), rate, time.perf_counter() - begin)
                while free and sent < due:
                    free.pop().ask(requests[sent])
                    sent += 1
                for key, _ in selector.select(0.002 if sent < len(requests) and free else None):
                    if key.data.is_answered():
                        answered += 1
                        free.append(key.data)
            for one in every:
                one.close()

    def _connect(self, selector: selectors.BaseSelector) -> "_Connection":
        connected = _Connection(socket.create_connection(self._address))
        selector.register(connected.socket, selectors.EVENT_READ, connected)
        return connected


def _due(count: int, rate: float | None, seconds: float) -> int:
    return count if rate is None else min(count, int(rate * seconds) + 1)


class _Connection:
    """One request at a time."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self._answer = b""

    def ask(self, request: bytes) -> None:
        self._answer = b""
        self.socket.sendall(request)

    def is_answered(self) -> bool:
        """Read what there is; whether that was the last of it."""
        part = self.socket.recv(1 << 20)
        assert part, "the server has hung up"
        self._answer += part
        head, found, body = self._answer.partition(b"\r\n\r\n")
        if not found:
            return False
        assert head.startswith(b"HTTP/1.1 202"), self._answer[:1_000]
        _, _, rest = head.lower().partition(b"content-length:")
        return len(body) == int(rest.partition(b"\r\n")[0])

    def close(self) -> None:
        self.socket.close()


@contextmanager
def services() -> Iterator[str]:
    """All services, on the database that this process is connected to; the web server's address."""
    with TemporaryDirectory(prefix="runledger-bench-") as home:
        variables = {"RUNLEDGER_HOME": home, "DATABASE_URL": _database_url()}
        services = subprocess.Popen(
            [sys.executable, "manage.py", "up"],
            cwd=CHECKOUT,
            env=os.environ | variables,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            yield _address_of(services)
        finally:
            services.send_signal(signal.SIGTERM)
            services.communicate()


def _address_of(services: "subprocess.Popen[str]") -> str:
    assert services.stdout is not None
    for line in services.stdout:
        if "Runledger is at " in line:
            return line.partition("Runledger is at ")[2].split()[0]
    raise AssertionError("the services do not start")


def _database_url() -> str:
    given = connection.settings_dict
    user = f"{quote(given['USER'])}:{quote(given['PASSWORD'])}@"
    where = f"host={quote(given['HOST'], safe='')}&port={given['PORT']}"
    return f"postgresql://{user}/{quote(given['NAME'])}?{where}"
