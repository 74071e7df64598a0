"""The command: its own process, its file, and the places where it will not run."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import stripe

from billing.stripe import simulator
from tests.contract.receiver import SECRET, Receiver
from tests.contract.scenes import customer
from tests.contract.stripe_client import client

# Nobody listens there: the command needs no database.
NO_DATABASE = "postgresql://nobody@127.0.0.1:9/none"


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if "STRIPE" not in name}
    return kept | {"DATABASE_URL": NO_DATABASE, "RUNLEDGER_DEVELOPMENT": "1"} | more


def command(home: Path, *arguments: str) -> list[str]:
    return [
        sys.executable,
        "manage.py",
        "stripe_simulator",
        *("--port", "0", "--home", str(home)),
        *arguments,
    ]


@contextmanager
def process(home: Path, **more: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    running = subprocess.Popen(
        command(home), env=environment(**more), stdout=subprocess.PIPE, text=True
    )
    try:
        assert running.stdout is not None
        yield running, running.stdout.readline().rsplit(" ", 1)[1].strip()
    finally:
        running.kill()
        running.communicate(timeout=10)


def test_it_answers_and_ends_when_told_to(home: Path, receiver: Receiver) -> None:
    secrets = f"{SECRET},whsec_of_another"
    with process(home, STRIPE_WEBHOOK_URL=receiver.url, STRIPE_WEBHOOK_SECRET=secrets) as (
        running,
        address,
    ):
        customer(client(address))
        receiver.wait_for("customer.created")
        running.send_signal(signal.SIGTERM)
        assert running.wait(10) == 0


def test_it_ends_in_order_even_before_it_was_asked_anything(home: Path) -> None:
    with process(home) as (running, _):
        running.send_signal(signal.SIGTERM)
        assert running.wait(10) == 0


def test_a_kill_loses_nothing_that_was_answered_and_doubles_nothing(home: Path) -> None:
    answered: list[str] = []

    def create(address: str) -> None:
        api = client(address)
        with suppress(stripe.APIConnectionError):
            for number in range(10_000):
                made = api.v1.customers.create(
                    {"name": str(number)}, {"idempotency_key": f"customer:{number}"}
                )
                answered.append(made.id)

    with process(home) as (running, address):
        worker = threading.Thread(target=create, args=(address,))
        worker.start()
        while len(answered) < 20:
            time.sleep(0.01)
        running.kill()
        worker.join(10)
    with simulator.running(home=home) as address:
        api = client(address)
        # The request in flight was done or not; sent again, it is done once.
        api.v1.customers.create(
            {"name": str(len(answered))}, {"idempotency_key": f"customer:{len(answered)}"}
        )
        found = [one.id for one in api.v1.customers.list({"limit": 100}).auto_paging_iter()]
        assert found[:0:-1] == answered
        assert len(found) == len(answered) + 1
        created = api.v1.events.list({"type": "customer.created", "limit": 100})
        assert len(list(created.auto_paging_iter())) == len(found)


def refusal(home: Path, *arguments: str, **more: str) -> str:
    ended = subprocess.run(
        command(home, *arguments),
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr
    return ended.stderr


def test_it_does_not_run_beside_a_live_key(home: Path) -> None:
    assert "live" in refusal(home, STRIPE_API_KEY="sk_live_x")
    assert not home.exists()


def test_it_does_not_run_in_production(home: Path) -> None:
    told = refusal(
        home,
        RUNLEDGER_DEVELOPMENT="0",
        SECRET_KEY="x" * 60,
        ALLOWED_HOSTS="runledger.example",
        RUNLEDGER_WEB_URL="https://runledger.example",
        STRIPE_SECRET_KEY="sk_test_x",
        STRIPE_WEBHOOK_SECRET="whsec_x",
        EMAIL_URL="smtp://localhost",
        DEFAULT_FROM_EMAIL="a@runledger.example",
        CELERY_BROKER_URL="memory://",
    )
    assert "for development" in told


def test_an_endpoint_without_a_secret_is_refused(home: Path) -> None:
    assert "--webhook-secret" in refusal(home, "--webhook-url", "http://127.0.0.1:9/hooks")


def test_a_port_that_is_taken_is_told(home: Path, receiver: Receiver) -> None:
    port = receiver.url.split(":")[2].split("/")[0]
    assert f"127.0.0.1:{port}" in refusal(home, "--port", port)


def test_two_on_one_home_are_refused(home: Path, address: str) -> None:
    with pytest.raises(simulator.StoreInUse, match="in use"):
        simulator.Simulator(home=home)
