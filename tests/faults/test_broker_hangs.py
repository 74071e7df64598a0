"""A broker that takes connections and never answers costs whoever has work to announce seconds."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.processes import Installation

# It is tried three times; a client may try each of them again.
SECONDS_MAX = 30.0
ANNOUNCE = """
import time
import django
django.setup()
from ledger import tasks
began = time.monotonic()
tasks.wake([1])
print(time.monotonic() - began)
"""


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of one that takes connections, by the system's own hand, and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as taking:
        yield taking.getsockname()[1]


@pytest.mark.parametrize("transport", ["pgmq", "redis", "amqp"])
def test_who_announces_work_is_held_up_for_seconds_only(
    silent: int, transport: str, tmp_path: Path
) -> None:
    url = f"{transport}://user:secret@127.0.0.1:{silent}/0"
    variables = {
        "CELERY_BROKER_URL": url,
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "RUNLEDGER_DEVELOPMENT": "1",
    }
    here = Installation(tmp_path, variables)
    answer = here.run("-c", ANNOUNCE)
    assert answer.returncode == 0, answer.stderr
    assert "the sweep will debit" in answer.stdout + answer.stderr
    assert float(answer.stdout.split()[-1]) < SECONDS_MAX
