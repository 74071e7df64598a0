"""What beat runs is due by a clock that nobody sets."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from celery.worker.request import Request
from kombu import Connection
from kombu.simple import SimpleQueue

from config.celery import app
from config.schedule import CLOCKS_DIFFER_SECONDS_MAX, SCHEDULE, Every

SOON = timedelta(seconds=1)
HOUR = timedelta(hours=1)


def test_a_clock_that_is_put_back_makes_nothing_wait():
    every = Every(5)
    began_at = every.now()
    with time_machine.travel(datetime.now(UTC) - HOUR):
        assert began_at <= every.now() < began_at + timedelta(seconds=5)


def test_what_a_beat_before_did_in_an_hour_is_due_now():
    every = Every(5)
    assert every.is_due(every.now() + HOUR).is_due
    assert not every.is_due(every.now()).is_due
    assert every.is_due(every.now() - timedelta(seconds=5)).is_due


@pytest.mark.parametrize("name", SCHEDULE)
def test_a_worker_whose_clock_differs_takes_what_is_due_and_forgets_what_is_old(name):
    """As Celery's own worker decides, of the message that its own client sends."""
    app.loader.import_default_modules()
    entry = SCHEDULE[name]
    with Connection("memory://") as broker:
        app.send_task(
            entry["task"], entry["args"], connection=broker, queue="clocks", **entry["options"]
        )
        with SimpleQueue(broker.channel(), "clocks") as queue:
            message = queue.get_nowait()
            request = Request(message, app=app)
            message.ack()
    now = datetime.now(UTC)
    differ = timedelta(seconds=CLOCKS_DIFFER_SECONDS_MAX)
    interval = entry["schedule"].run_every
    for at in (now - HOUR, now + differ, now + differ + interval - SOON):
        with time_machine.travel(at):
            assert not request.maybe_expire(), "a task that is due"
    with time_machine.travel(now + differ + interval + SOON):
        assert request.maybe_expire(), "an old one"
