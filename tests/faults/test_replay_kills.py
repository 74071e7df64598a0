"""kill -9 in the middle of the demo's replay: nothing is lost, nothing happens twice.

Each test plays the same month on a fresh installation, kills something while some of its runs are
acknowledged and others not, and wants the figures of a play that nobody disturbed.
"""

import os
import signal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from config.embedded import places
from tests.faults import plays
from tests.faults.plays import RUNS, Play, told
from tests.faults.processes import Installation, children, wait_until

pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc to see who is left")


@pytest.fixture(scope="module")
def undisturbed(migrated: Installation, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """How the month ends when nothing is killed."""
    with plays.copied(migrated, tmp_path_factory.mktemp("undisturbed") / "home") as made:
        figures = Play(made).figures()
        plays.require_sound(made)
    return told(figures)


def test_a_month_in_which_nothing_is_killed_adds_up(undisturbed):
    assert undisturbed["runs_sent"] == undisturbed["runs_debited"] == RUNS
    assert undisturbed["ledger_sound"] is True
    assert [one["invoice_paid"].split()[1] for one in undisturbed["customers"]] == ["EUR"] * 3


def test_the_worker_is_killed(fresh, undisturbed):
    play = Play(fresh)
    play.wait_until_some_runs_are_acknowledged()
    play.wait_for(plays.DEBITED, lambda count: count > 0)
    [worker] = children(play.group("worker"))
    pool = children(worker)
    os.kill(pool[0], signal.SIGKILL)
    play.wait_until_some_runs_are_acknowledged(share=0.4)
    killed = play.group("worker")
    os.killpg(killed, signal.SIGKILL)
    assert play.wait_for(plays.ACKNOWLEDGED, bool) < RUNS
    wait_until(lambda: play.group("worker") != killed, "the worker is started again")

    assert told(play.figures()) == undisturbed
    plays.require_sound(fresh)


def test_the_web_server_is_killed(fresh, undisturbed):
    play = Play(fresh)
    play.wait_until_some_runs_are_acknowledged()
    [master] = children(play.group("web"))
    [child] = children(master)
    os.kill(child, signal.SIGKILL)
    play.wait_until_some_runs_are_acknowledged(share=0.4)
    killed = play.group("web")
    [master] = children(killed)
    os.kill(master, signal.SIGKILL)
    assert play.wait_for(plays.ACKNOWLEDGED, bool) < RUNS
    wait_until(lambda: play.group("web") != killed, "the web server is started again")

    assert told(play.figures()) == undisturbed
    plays.require_sound(fresh)


def test_postgresql_is_killed(fresh, undisturbed):
    play = Play(fresh)
    play.wait_until_some_runs_are_acknowledged()
    untouched = {name: play.group(name) for name in ("web", "worker", "stripe")}
    killed = fresh.postmaster()
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: fresh.postmaster() != killed, "PostgreSQL is started again")
    assert play.wait_for(plays.ACKNOWLEDGED, bool) < RUNS
    play.wait_until_some_runs_are_acknowledged(share=0.6)
    os.kill(fresh.postmaster(), signal.SIGKILL)
    assert untouched == {name: play.group(name) for name in untouched}

    assert told(play.figures()) == undisturbed
    plays.require_sound(fresh)


def test_the_supervisor_is_killed_and_the_demo_played_again(fresh, undisturbed):
    play = Play(fresh)
    play.wait_until_some_runs_are_acknowledged(share=0.3)
    play.kill()
    assert 0 < int(fresh.query(plays.ACKNOWLEDGED)) < RUNS

    assert told(Play(fresh).figures()) == undisturbed
    plays.require_sound(fresh)


def test_worker_and_supervisor_are_killed_while_invoices_are_sent(fresh, undisturbed):
    play = Play(fresh)
    play.wait_for(plays.CALLS_DONE, lambda count: count >= 4)
    os.killpg(play.group("worker"), signal.SIGKILL)
    play.kill()
    assert int(fresh.query(plays.CALLS_DONE)) >= 4
    assert int(fresh.query(plays.CALLS_WAITING)) > 0
    fresh.query(plays.LEASES_RUN_OUT)

    play = Play(fresh)
    play.wait_for(plays.CALLS_DONE, lambda count: count >= 12)
    os.killpg(play.group("worker"), signal.SIGKILL)
    assert play.wait_for(plays.CALLS_WAITING, lambda _: True) > 0
    with psycopg.connect(places.connection_string(fresh.home)) as connection:
        connection.execute(plays.LEASES_RUN_OUT)

    assert told(play.figures()) == undisturbed
    plays.require_sound(fresh)
