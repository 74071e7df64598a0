"""A broker that takes connections and never answers costs whoever has work to announce seconds."""

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.processes import PATIENCE_SECONDS, Installation

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


def test_who_announces_work_is_held_up_for_seconds_only(silent: int, tmp_path: Path) -> None:
    announcing = {
        transport: Installation(
            tmp_path,
            {
                "CELERY_BROKER_URL": f"{transport}://user:secret@127.0.0.1:{silent}/0",
                "DJANGO_SETTINGS_MODULE": "config.settings",
                "RUNLEDGER_DEVELOPMENT": "1",
            },
        ).start("-c", ANNOUNCE, stdout=subprocess.PIPE)
        for transport in ("pgmq", "redis", "amqp")
    }
    for transport, process in announcing.items():
        told, _ = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0, (transport, told)
        assert "the sweep will debit" in told
        assert float(told.split()[-1]) < SECONDS_MAX, transport
