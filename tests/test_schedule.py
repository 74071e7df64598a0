"""What beat runs is due by a clock that nobody sets."""

from datetime import UTC, datetime, timedelta

import time_machine

from config.schedule import Every

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
