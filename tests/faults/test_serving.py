"""What may happen to an installation that serves: it goes on by itself, nothing lost or twice.

All of it is real: web server, worker, beat and PostgreSQL, and a client that sends runs. The
broker is pgmq over a line that a test can cut; the clock of all processes, except the client's and
PostgreSQL's, is one that a test can turn.
"""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from config.embedded import places
from tests.faults import lines, plays, serving
from tests.faults.lines import Line
from tests.faults.processes import Installation, children, wait_until
from tests.faults.serving import Client, Ledger, Load, run

pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc to see who is left")

# Nobody in the system counts the length of an outage. What takes time are retries: a request does
# not wait for the broker at all, who announces work tries for half a second, a sweep comes every
# 5 seconds, and a worker that lost its broker asks again after 2, 4, 6 … at most 30 seconds, for
# ever. An outage in which each of them has failed twice is as a minute is; nightly it is a minute.
OUTAGE_SECONDS = 60 if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else 10
AT_ONCE_SECONDS = 5.0
HOUR = timedelta(hours=1)
MESSAGES = 10
TELL = f"""
import django
django.setup()
from ledger import debiting, tasks
for _ in range({MESSAGES}):
    tasks.wake(debiting.waiting_shards())
"""


@dataclass(frozen=True)
class Served:
    here: Installation
    line: Line
    clock: Path
    client: Client
    ledger: Ledger

    def turn_clock(self, by: timedelta) -> None:
        """Set the clock of all processes to so much before or after the true time."""
        draft = self.clock.with_suffix(".new")
        draft.write_text(f"{by.total_seconds()}")
        draft.replace(self.clock)
        time.sleep(0.5)  # ten times what it takes to see it


@pytest.fixture(scope="module")
def served(migrated: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    home, clock = folder / "home", folder / "clock"
    with lines.line(places.database_folder(home) / places.SOCKET) as line:
        variables = {
            "CELERY_BROKER_URL": f"pgmq://{places.USER}@127.0.0.1:{line.port}/{places.DATABASE}",
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "PYTHONPATH": str(Path(__file__).parent / "turned_clock"),
            "TURNED_CLOCK": str(clock),
        }
        with plays.copied(migrated, home, **variables) as here, serving.up(here):
            client = serving.client_of(here)
            yield Served(here, line, clock, client, Ledger(here))


def lasts_without_debits(served: Served, load: Load) -> None:
    """Runs are taken at once all the while, nobody debits them, and after it somebody does."""
    client, ledger = served.client, served.ledger
    taken = client.taken
    time.sleep(OUTAGE_SECONDS / 2)
    debited = ledger.debited()
    time.sleep(OUTAGE_SECONDS / 2)
    assert ledger.debited() == debited, "nobody was told, so nobody debited"
    assert client.taken > taken
    assert load.slowest_seconds < AT_ONCE_SECONDS
    served.line.mend()
    ledger.wait_until(lambda: ledger.debited() > debited, "runs are debited")


def test_the_broker_is_gone_under_load_and_comes_back(served):
    client, ledger = served.client, served.ledger
    with Load(client).sending() as load:
        ledger.wait_until(lambda: ledger.debited() > 0, "runs are debited")

        served.line.cut()
        lasts_without_debits(served, load)
    assert load.failures == []
    ledger.require(client)


def test_the_broker_hangs_under_load_and_is_replaced(served):
    """It takes connections and never answers; those that it has stay silent for good."""
    client, ledger = served.client, served.ledger
    with Load(client).sending() as load:
        debited = ledger.debited()
        ledger.wait_until(lambda: ledger.debited() > debited, "runs are debited")

        served.line.go_silent()
        lasts_without_debits(served, load)
    assert load.failures == []
    ledger.require(client)


def test_a_message_that_comes_ten_times_to_several_workers_is_one_debit(served):
    client, ledger = served.client, served.ledger
    served.line.cut()
    for _ in range(20):
        client.send_new(200)
    debited = ledger.debited()
    assert ledger.waiting() > 0
    other_line = Installation(served.here.home, served.here.variables | {"CELERY_BROKER_URL": ""})
    assert other_line.run("-c", TELL).returncode == 0
    served.line.mend()

    ledger.wait_until(lambda: ledger.debited() > debited, "runs are debited")
    ledger.require(client)


def test_all_that_is_kept_beside_the_ledger_is_wiped_under_load(served):
    client, ledger = served.client, served.ledger
    with Load(client).sending():
        for _ in range(2):
            [web] = children(int(served.here.addresses()["processes"]["web"]))
            for process in children(web):
                os.kill(process, signal.SIGKILL)
            with psycopg.connect(places.connection_string(served.here.home)) as connection:
                connection.execute("DELETE FROM pgmq.q_celery")
            wait_until_taken(client, 200)
    ledger.require(client)


def test_the_clock_goes_back_by_an_hour_and_is_put_right(served, tmp_path):
    client, ledger = served.client, served.ledger
    held, other = client.hold(), client.hold()
    with Load(client).sending() as load:
        wait_until_taken(client, 100)
        served.turn_clock(-HOUR)
        wait_until_taken(client, 100)
    try:
        held_then = client.hold()
        assert instant(held_then.now()["asked_at"]) < datetime.now(UTC) - HOUR / 2
        # What was held goes on being held, and its run settles it.
        assert [held.now()["status"], other.now()["status"]] == ["held", "held"]
        assert told(held.captured()) == ("captured", False)
        assert client.send([run(number) for number in range(50)])[0] == 202, "once more"
        # For all we know it occurs in an hour: it is not taken, and can be sent later.
        status, refusal = client.send_apart(occurred_at=datetime.now(UTC).isoformat())
        assert (status, refusal["errors"][0]["rule"]) == (422, "in_the_future")
        # Of some nobody is told: a sweep finds them.
        client.send_untold(100)
        ledger.require(client, but=[held_then, other])
    finally:
        served.turn_clock(timedelta(0))
    # In truth its time was over when it was asked for: its run is a debit as any other.
    assert held_then.now()["status"] == "expired"
    assert told(held_then.captured()) == ("captured", True)
    assert told(other.captured()) == ("captured", False)
    status, _ = client.send_apart(occurred_at=datetime.now(UTC).isoformat())
    assert status == 202
    assert load.failures == []
    ledger.require(client)
    exported = tmp_path / "exported"
    assert served.here.manage("export_receipts", "acme", "-o", str(exported)).returncode == 0
    verified = served.here.run("ledger/verify_receipts.py", str(exported))
    assert verified.returncode == 0, verified.stdout


def wait_until_taken(client: Client, count: int) -> None:
    """So many more runs."""
    before = client.taken
    wait_until(lambda: client.taken >= before + count, "more runs are taken")


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def told(hold: dict[str, object]) -> tuple[object, object]:
    return hold["status"], hold["late"]
