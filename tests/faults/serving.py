"""An installation that serves, a vendor's client at its door, and what must be so in the end."""

import http.client
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from config.embedded import places
from tests.faults.processes import PATIENCE_SECONDS, Installation

ACCOUNTS = ("acme", "orbit", "kumo")
RUNS_PER_BODY = 50
EARLIER = timedelta(hours=2)  # than now: when runs occur, so that no clock is too slow for them
GRANTED = 10_000_000
APART = 1_000_000_000

OPEN = f"""
import django
django.setup()
from datetime import timedelta
from django.utils import timezone
from ledger import access, grants
from tests.ledger.builders import make_account, make_shop
now = timezone.now()
shop = make_shop(effective_at=now - timedelta(days=365))
for code in {ACCOUNTS}:
    grants.grant(
        account_id=make_account(shop, code), microtokens={GRANTED}, source="top_up",
        price_micros=0, currency="", priority=0, effective_at=now - timedelta(days=30),
        expires_at=None, idempotency_key="all", at=now,
    )
print(access.issue_api_key(book_id=shop.book_id, name="client", at=now).secret)
"""


UNTOLD = """
import sys
import django
django.setup()
import msgspec
from django.utils import timezone
from ledger import intake
from ledger.models import Book
from ledger.reported import NewRun
runs = msgspec.json.decode(sys.stdin.buffer.read(), type=list[NewRun])
intake.accept(book_id=Book.objects.get().pk, runs=runs, at=timezone.now())
"""


@contextmanager
def up(here: Installation) -> Iterator["subprocess.Popen[str]"]:
    """Every service of the installation, for as long as the block lasts."""
    process = here.start("manage.py", "up", stdout=subprocess.PIPE)
    try:
        assert process.stdout
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "Runledger is at" in line:
                break
        else:
            pytest.fail("".join(lines))
        yield process
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE_SECONDS)
        here.wait_until_nothing_is_left()


@dataclass
class Client:
    """A vendor's, with a key, and what it has sent."""

    here: Installation
    secret: str
    taken: int = 0  # runs that were acknowledged: those numbered below this,
    apart: list[int] = field(default_factory=list)  # and these

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """One request; the status (0: no answer) and what was answered."""
        web = urlsplit(str(self.here.addresses()["web"])).netloc
        connection = http.client.HTTPConnection(web, timeout=30)
        headers = {"Authorization": f"Bearer {self.secret}", "Content-Type": "application/json"}
        try:
            connection.request(method, f"/api/v1/{path}", json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        except (OSError, http.client.HTTPException, ValueError) as error:
            return 0, str(error)
        finally:
            connection.close()

    def send(self, runs: Sequence[dict[str, Any]]) -> tuple[int, Any]:
        return self.ask("POST", "runs", {"runs": runs})

    def send_new(self, count: int = 1, **changed: Any) -> None:
        """New runs, which must be taken."""
        runs = [run(number, **changed) for number in range(self.taken, self.taken + count)]
        status, answer = self.send(runs)
        assert status == 202, answer
        self.taken += count

    def send_untold(self, count: int) -> None:
        """New runs that are taken in, while nobody is told that there is work."""
        runs = [run(number) for number in range(self.taken, self.taken + count)]
        process = self.here.start("-c", UNTOLD, stdin=subprocess.PIPE)
        process.communicate(json.dumps(runs), timeout=PATIENCE_SECONDS)
        assert process.returncode == 0
        self.taken += count

    def send_apart(self, **changed: Any) -> tuple[int, Any]:
        """A run whose number is not the next one."""
        number = APART + len(self.apart)
        status, answer = self.send([run(number, **changed)])
        if status == 202:
            self.apart.append(number)
        return status, answer

    def hold(self, life_seconds: int = 900) -> "Held":
        """Hold a little more than the run will cost."""
        number = APART + len(self.apart)
        self.apart.append(number)
        account = run(number)["account"]
        asked = {"run": f"run-{number}", "account": account, "workflow": "review"}
        status, answer = self.ask(
            "POST", "holds", asked | {"microtokens": 7, "life_seconds": life_seconds}
        )
        assert status == 201, answer
        return Held(self, number, f"holds/{account}/run-{number}")


@dataclass(frozen=True)
class Held:
    """A hold for a run of the client's."""

    client: Client
    number: int
    path: str

    def now(self) -> dict[str, Any]:
        status, answer = self.client.ask("GET", self.path)
        assert status == 200, answer
        return dict(answer)

    def captured(self) -> dict[str, Any]:
        """The hold, after its run has come."""
        status, answer = self.client.ask("POST", f"{self.path}/capture", run(self.number))
        assert status == 200, answer
        return dict(answer["hold"])


def run(number: int, **changed: Any) -> dict[str, Any]:
    """A run that costs 1 to 5, told by the vendor's own clock."""
    return {
        "id": f"run-{number}",
        "account": ACCOUNTS[number % len(ACCOUNTS)],
        "workflow": "review",
        "occurred_at": (datetime.now(UTC) - EARLIER).isoformat(),
        "inferences": [{"engine": "engine", "quantities": {"executions": cost(number)}}],
    } | changed


def cost(number: int) -> int:
    return 1 + number % 5


def client_of(here: Installation) -> Client:
    """A vendor with three accounts and more tokens than it can use, and its client."""
    answer = here.run("-c", OPEN)
    assert answer.returncode == 0, answer.stderr
    return Client(here, answer.stdout.split()[-1])


@dataclass
class Load:
    """Runs sent all the time, body after body; one that is not taken is sent again."""

    client: Client
    failures: list[tuple[int, Any]] = field(default_factory=list)
    slowest_seconds: float = 0.0
    _is_over: threading.Event = field(default_factory=threading.Event)

    def _send(self) -> None:
        while not self._is_over.is_set():
            begin = self.client.taken
            body = [run(number) for number in range(begin, begin + RUNS_PER_BODY)]
            self._send_until_taken(body)
            self.client.taken += RUNS_PER_BODY
            self._is_over.wait(0.05)

    def _send_until_taken(self, body: Sequence[dict[str, Any]]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            began = time.monotonic()
            status, answer = self.client.send(body)
            self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - began)
            if status == 202:
                return
            self.failures.append((status, answer))
            assert time.monotonic() < deadline, self.failures[-1]
            time.sleep(0.1)

    @contextmanager
    def sending(self) -> Iterator["Load"]:
        thread = threading.Thread(target=self._send)
        thread.start()
        try:
            yield self
        finally:
            self._is_over.set()
            thread.join()


@dataclass
class Ledger:
    """The database, looked at from beside."""

    here: Installation

    def asked(self, statement: str) -> int:
        with psycopg.connect(places.connection_string(self.here.home)) as connection:
            row = connection.execute(statement).fetchone()
        assert row is not None
        return int(row[0])

    def debited(self) -> int:
        return self.asked("SELECT count(*) FROM ledger_run")

    def waiting(self) -> int:
        return self.asked("SELECT coalesce(sum(runs_count), 0) FROM ledger_intake")

    def wait_until(self, is_so: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not is_so():
            assert time.monotonic() < deadline, f"waited in vain until {what}"
            time.sleep(0.1)

    def require(self, client: Client, *, but: Sequence[Held] = ()) -> None:
        """All that was acknowledged is debited, each run once; and the ledger is sound.

        Of what was held for, all but these runs have come.
        """
        self.wait_until(lambda: self.waiting() == 0, "all runs are debited")
        numbers = {*range(client.taken), *client.apart} - {held.number for held in but}
        assert self.debited() == len(numbers)
        assert self.asked("SELECT count(DISTINCT run_key) FROM ledger_run") == len(numbers)
        total = sum(cost(number) for number in numbers)
        assert self.asked("SELECT sum(microtokens) FROM ledger_run") == total
        answer = self.here.manage("check_ledger")
        assert answer.returncode == 0, answer.stdout + answer.stderr
