"""`manage.py up`: what dies is started again, and all of it ends with the supervisor."""

import json
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.faults.processes import (
    PATIENCE_SECONDS,
    Installation,
    installation,
    wait_until,
)
from tests.faults.serving import up

pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc to see who is left")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with installation(tmp_path_factory.mktemp("up"), STRIPE_SECRET_KEY="sk_test_none") as made:
        yield made


def verdicts(here: Installation) -> dict[str, str]:
    answer = here.manage("doctor", "--json")
    return {found["subject"]: found["verdict"] for found in json.loads(answer.stdout)["findings"]}


def web_answers(here: Installation) -> bool:
    try:
        with urlopen(f"{here.addresses()['web']}/admin/login/", timeout=10) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def is_back(here: Installation, words: str, killed: int) -> bool:
    numbers = here.numbers(words)
    return bool(numbers) and killed not in numbers


def test_whatever_is_killed_comes_back_and_nothing_outlives_the_supervisor(here):
    with up(here) as supervisor:
        assert web_answers(here)
        wait_until(lambda: verdicts(here)["worker"] == "ok", "the worker answers")

        for words in ("celery -A config worker", "granian", "bin/postgres -D", "embedded.keeper"):
            killed = here.process(words)
            os.kill(killed, signal.SIGKILL)
            wait_until(partial(is_back, here, words, killed), f"{words} is back")
        wait_until(lambda: web_answers(here), "the web answers")
        wait_until(lambda: verdicts(here)["worker"] == "ok", "the worker answers")
        wait_until(lambda: verdicts(here)["beat"] == "ok", "beat is back at work")

        os.kill(supervisor.pid, signal.SIGKILL)
        here.wait_until_nothing_is_left()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_orderly_end_leaves_nothing(here, number):
    with up(here) as supervisor:
        supervisor.send_signal(number)
        output, _ = supervisor.communicate(timeout=PATIENCE_SECONDS)
        assert "all services have ended" in output
        assert here.processes() == []
        assert not (here.home / "addresses.json").exists()


def test_the_services_of_a_home_run_once(here):
    with up(here):
        answer = here.manage("up")
        assert answer.returncode == 1
        assert "run already" in answer.stderr


def test_what_cannot_be_migrated_is_told_in_a_sentence(tmp_path):
    nowhere = Installation(
        tmp_path, {"DATABASE_URL": "postgresql://x@127.0.0.1:9/x", "RUNLEDGER_DEVELOPMENT": "1"}
    )
    answer = nowhere.manage("up")
    assert answer.returncode == 1
    assert "The database cannot be reached" in answer.stderr
    assert "Traceback" not in answer.stderr
