"""A worker outlives a restart of the database that is its broker too."""

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import kombu
import pytest

from config import broker
from config.embedded import places
from tests.faults.processes import wait_until

pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc to see who is left")
IN_HAND_MAX = 2


def test_messages_that_could_not_be_acknowledged_do_not_stop_a_worker_for_ever(fresh):
    options = broker.transport_options("pgmq://other", database={}, embedded=False)
    options["conn_string"] = places.connection_string(fresh.home)
    taken: list[kombu.Message] = []
    with fresh.user(), kombu.Connection("pgmq://", transport_options=options) as connection:
        queue = kombu.Queue("taken", routing_key="taken")
        with connection.Producer() as producer:
            for number in range(IN_HAND_MAX):
                producer.publish(number, routing_key="taken", declare=[queue])
        channel: Any = connection.default_channel
        consumer = kombu.Consumer(
            channel,
            queue,
            on_message=taken.append,
            prefetch_count=IN_HAND_MAX,
            accept=["json"],
        )
        with consumer:
            while len(taken) < IN_HAND_MAX:
                connection.drain_events(timeout=30)

            killed = fresh.postmaster()
            os.kill(killed, signal.SIGKILL)
            wait_until(lambda: fresh.postmaster() != killed, "PostgreSQL is started again")
            for message in taken:
                # The first tells of the lost connection; the pool may have made another since.
                with suppress(*connection.connection_errors):
                    message.ack()
            # If it could not, it would never ask again, nor find out that it should connect anew.
            assert channel.qos.can_consume()
