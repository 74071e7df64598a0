"""The demo as it is played in these tests, killed at chosen moments, and what must then be so."""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import psycopg

from billing.stripe import simulator
from config.embedded import places
from tests.faults.processes import Installation, installation

RUNS = 20_000  # some seconds of sending: a kill that waits for the first of them lands in the midst
CUSTOMERS = 3
PLAY_SECONDS_MAX = 400.0  # the machine may be busy with something else
MOMENT_SECONDS_MAX = 120.0

ACKNOWLEDGED = "SELECT coalesce(sum(runs_count), 0) FROM ledger_batch"
DEBITED = "SELECT count(*) FROM ledger_run"
DEBITED_OF_THE_MONTH = """
    SELECT count(*) FROM ledger_run
    JOIN billing_customer USING (account_id)
    JOIN billing_subscription ON billing_subscription.customer_id = billing_customer.id
    JOIN billing_period ON billing_period.subscription_id = billing_subscription.id AND number = 1
    WHERE occurred_at >= billing_period.starts_at AND occurred_at < ends_at
"""
CALLS_DONE = "SELECT count(*) FROM billing_stripecall WHERE done_at IS NOT NULL"
CALLS_WAITING = "SELECT count(*) FROM billing_stripecall WHERE done_at IS NULL"
# What comes of time alone, without waiting for it.
LEASES_RUN_OUT = """
    UPDATE billing_stripecall SET leased_until = now() WHERE leased_until > now();
    UPDATE billing_stripeevent SET leased_until = now() WHERE leased_until > now()
"""


@contextmanager
def copied(template: Installation, home: Path, **variables: str) -> Iterator[Installation]:
    """An installation like another, which nobody uses: preparing a database takes a while."""
    with installation(home, **variables) as made:
        shutil.copytree(template.home, home, ignore=shutil.ignore_patterns("postgresql"))
        # As it is: its files may belong to somebody else.
        copy = ["cp", "-a", f"{template.database_folder}/", f"{made.database_folder}"]
        subprocess.run(copy, check=True)
        yield made


class Play:
    """One run of `manage.py demo`, looked at from beside."""

    def __init__(self, here: Installation) -> None:
        self.here = here
        self.process = here.start(
            *("manage.py", "demo", "--once", "--json", "--runs", str(RUNS)),
            stdout=subprocess.PIPE,
        )

    def figures(self) -> dict[str, Any]:
        """The ending, of a play that ended well and left nothing behind."""
        output, _ = self.process.communicate(timeout=PLAY_SECONDS_MAX)
        assert self.process.returncode == 0, output
        self.here.wait_until_nothing_is_left()
        [line] = [line for line in output.splitlines() if line.startswith("{")]
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer

    def wait_for(self, statement: str, is_so: Callable[[int], bool]) -> int:
        """Ask the database until the answer is right; the answer. The play must go on meanwhile."""
        deadline = time.monotonic() + MOMENT_SECONDS_MAX
        answer = None
        while True:
            try:
                # One connection for many questions: to begin one costs the server more than they.
                with psycopg.connect(
                    places.connection_string(self.here.home), autocommit=True
                ) as connection:
                    answer = _asked(connection, statement)
                    while not is_so(answer):
                        self._goes_on(deadline, f"{statement}: {answer}")
                        answer = _asked(connection, statement)
                    return answer
            except (psycopg.OperationalError, psycopg.errors.UndefinedTable):
                self._goes_on(deadline, f"{statement}: {answer}")  # it is not up yet, or down again

    def _goes_on(self, deadline: float, asked: str) -> None:
        assert self.process.poll() is None, self.process.communicate()
        assert time.monotonic() < deadline, asked
        time.sleep(0.01)

    def wait_until_some_runs_are_acknowledged(self, *, share: float = 0.1) -> None:
        """Some, and not all: the moment to kill something in the middle of the replay."""
        count = self.wait_for(ACKNOWLEDGED, lambda count: count >= share * RUNS)
        assert count < RUNS, "the replay was over before anything could be killed"

    def group(self, service: str) -> int:
        """The process group of a service."""
        processes = self.here.addresses()["processes"]
        assert isinstance(processes, dict)
        return int(processes[service])

    def kill(self) -> None:
        """kill -9 of the supervisor, which is the demo's own process. Nothing may stay behind."""
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()
        self.here.wait_until_nothing_is_left()


def _asked(connection: psycopg.Connection, statement: str) -> int:
    row = connection.execute(statement).fetchone()
    assert row is not None
    return int(row[0])


def told(figures: dict[str, Any]) -> dict[str, Any]:
    """The figures that are the same in each play: Stripe's numbers and the speed are not."""
    customers = [
        {name: value for name, value in customer.items() if name != "invoice"}
        for customer in figures["customers"]
    ]
    return figures | {"customers": customers, "runs_per_second": None}


def require_sound(here: Installation) -> None:
    """Nothing lost, nothing twice: asked of the ledger itself, and of Stripe's stand-in."""
    assert "deadlock detected" not in places.log(here.home, "postgresql").read_text()
    answer = here.manage("check_ledger", "--json")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert here.query(DEBITED_OF_THE_MONTH) == str(RUNS)
    assert here.query("SELECT count(*) FROM ledger_intake") == "0"
    ours = here.query(
        "SELECT string_agg(stripe_invoice_id, ' ' ORDER BY stripe_invoice_id)"
        " FROM billing_invoicefinalization JOIN billing_invoicepayment USING (invoice_id)"
    ).split()
    assert here.query("SELECT count(*) FROM billing_invoice") == str(len(ours))
    with simulator.running(home=here.home) as address:
        invoices = _listed(address, "invoices")
        intents = _listed(address, "payment_intents")
        sessions = _listed(address, "checkout/sessions")
        assert len(_listed(address, "customers")) == CUSTOMERS
    assert sorted(invoice["id"] for invoice in invoices) == ours
    assert {invoice["status"] for invoice in invoices} == {"paid"}
    occasions = [(one["customer"], one["metadata"]["invoice_id"]) for one in invoices]
    assert len(set(occasions)) == len(occasions) == 2 * CUSTOMERS
    # One payment for each invoice, and one for the pack.
    assert [intent["status"] for intent in intents] == ["succeeded"] * (2 * CUSTOMERS + 1)
    assert [session["payment_status"] for session in sessions] == ["paid"]


def _listed(address: str, what: str) -> list[dict[str, Any]]:
    request = Request(
        f"{address}/v1/{what}?limit=100", headers={"Authorization": "Bearer sk_test_simulated"}
    )
    with urlopen(request, timeout=30) as answer:
        page = json.load(answer)
    assert not page["has_more"]
    return list(page["data"])
