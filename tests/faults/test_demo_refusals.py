"""The demo where it cannot be played, where it is interrupted, and for whom it is played."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import django
import pytest

from config.embedded import places
from tests.faults import plays
from tests.faults.plays import Play
from tests.faults.processes import Installation

pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc to see who is left")
SOMEBODY = "nobody"


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"STRIPE_SECRET_KEY": "sk_test_of_ours"}, "unset STRIPE_SECRET_KEY"),
        ({"CELERY_BROKER_URL": "redis://127.0.0.1:9"}, "The broker cannot be reached"),
        (
            {"DATABASE_URL": "postgresql://x@127.0.0.1:9/x", "RUNLEDGER_DEVELOPMENT": "1"},
            "The database cannot be reached",
        ),
    ],
)
def test_a_service_with_which_it_cannot_be_played_is_told_in_a_sentence(
    tmp_path, variables, sentence
):
    answer = Installation(tmp_path, variables).manage("demo", "--once")
    assert answer.returncode == 1
    assert sentence in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_port_that_is_taken_is_told_in_a_sentence(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        answer = Installation(tmp_path).manage("up", "--port", str(port))
    assert answer.returncode == 1
    assert f"cannot have port {port}" in answer.stderr


def test_interrupted_it_leaves_nothing_and_does_not_pass_for_played(fresh):
    play = Play(fresh)
    play.wait_until_some_runs_are_acknowledged()
    play.process.send_signal(signal.SIGINT)
    output, _ = play.process.communicate(timeout=plays.MOMENT_SECONDS_MAX)
    assert play.process.returncode == 130
    assert "Traceback" not in output
    fresh.wait_until_nothing_is_left()


@pytest.fixture
def somebodys_checkout() -> Iterator[Path]:
    """A copy of the sources that belongs to somebody who is not root."""
    somebody = pwd.getpwnam(SOMEBODY)
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=places.CHECKOUT,
            capture_output=True,
            text=True,
            check=True,
        )
        for name in listed.stdout.split("\0"):
            source = places.CHECKOUT / name
            if source.is_file() and not name.startswith("tests/"):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, folder / name)
        for path in (folder, *folder.rglob("*")):
            os.chown(path, somebody.pw_uid, somebody.pw_gid, follow_symlinks=False)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_as_somebody(*command: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    somebody = pwd.getpwnam(SOMEBODY)
    return subprocess.run(
        command,
        cwd=cwd,
        env={
            "HOME": str(cwd),
            "PATH": os.environ["PATH"],
            "PYTHONDONTWRITEBYTECODE": "1",
            # For the machine's own Python, if that of the tests is in root's home.
            "PYTHONPATH": str(Path(django.__file__).parent.parent),
        },
        user=somebody.pw_uid,
        group=somebody.pw_gid,
        extra_groups=[],
        capture_output=True,
        text=True,
        timeout=plays.PLAY_SECONDS_MAX,
        check=False,
    )


def works(python: str, cwd: Path) -> bool:
    try:
        return run_as_somebody(python, "-c", "import psycopg, numpy", cwd=cwd).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests are run by somebody who is not root")
def test_somebody_who_is_not_root_plays_it_too(somebodys_checkout):
    here = somebodys_checkout
    python = next((one for one in (sys.executable, "/usr/bin/python3") if works(one, here)), None)
    if python is None:
        pytest.skip(f"{SOMEBODY} reaches no Python with these packages")
    answer = run_as_somebody(
        *(python, "manage.py", "demo", "--once", "--json", "--runs", "1000"), cwd=here
    )
    assert answer.returncode == 0, answer.stderr
    assert '"runs_debited": 1000' in answer.stdout
    assert (here / ".runledger").stat().st_uid != 0
    checked = run_as_somebody(python, "manage.py", "check_ledger", cwd=here)
    assert checked.returncode == 0, checked.stdout + checked.stderr
