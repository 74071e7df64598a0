"""The embedded PostgreSQL: there when it is needed, whatever is killed, and no longer."""

import importlib.util
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.embedded.postgresql import LIBRARIES, PACKAGE, PROGRAMS
from tests.faults.processes import USER, Installation, in_turn, installation, wait_until

pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc to see who is left")


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Installation]:
    with installation(tmp_path / "home") as made:
        yield made


def test_it_stops_when_its_last_user_ends_and_keeps_the_data(here):
    here.query("CREATE TABLE kept AS SELECT 7 AS seven")
    here.wait_until_nothing_is_left()
    assert here.query("SELECT seven FROM kept") == "7"
    here.wait_until_nothing_is_left()


def test_it_stops_when_its_last_user_is_killed(here):
    with here.user() as user, here.user() as other:
        user.kill()
        user.wait()
        assert here.query("SELECT 1") == "1"
        other.kill()
        here.wait_until_nothing_is_left()


def test_it_is_as_durable_as_in_production(here):
    with here.user():
        for setting in ("fsync", "synchronous_commit", "full_page_writes", "data_checksums"):
            assert here.query(f"SHOW {setting}") == "on"
        assert here.query("SHOW listen_addresses") == ""
        assert here.query("SHOW server_encoding") == "UTF8"


def test_killed_it_comes_back_with_all_that_was_committed(here):
    with here.user():
        here.query("CREATE TABLE kept AS SELECT 7 AS seven")
        killed = here.postmaster()
        os.kill(killed, signal.SIGKILL)
        assert here.query("SELECT seven FROM kept") == "7"
        assert here.postmaster() != killed


def test_when_its_keeper_is_killed_it_goes_too_and_the_next_user_starts_both(here):
    with here.user():
        here.query("CREATE TABLE kept AS SELECT 7 AS seven")
        orphan = here.postmaster()
        os.kill(here.process("config.embedded.keeper"), signal.SIGKILL)
        assert here.query("SELECT seven FROM kept") == "7"
        assert here.postmaster() != orphan
    here.wait_until_nothing_is_left()


def test_keeper_and_server_killed_together_are_started_again(here):
    with here.user():
        here.query("CREATE TABLE kept AS SELECT 7 AS seven")
        keeper, server = here.process("config.embedded.keeper"), here.postmaster()
        os.kill(keeper, signal.SIGKILL)
        os.kill(server, signal.SIGKILL)
        assert here.query("SELECT seven FROM kept") == "7"


def test_several_may_be_its_first_user_at_once(here):
    users = [here.start("-c", USER.replace("sys.stdin.read()", "")) for _ in range(4)]
    assert in_turn(users) == [0, 0, 0, 0]
    here.wait_until_nothing_is_left()


def test_two_homes_have_nothing_in_common(here, tmp_path):
    with installation(tmp_path / "other") as other, here.user(), other.user():
        here.query("CREATE TABLE ours ()")
        assert other.query("SELECT to_regclass('ours') IS NULL") == "True"
        assert here.database_folder != other.database_folder
        assert here.postmaster() != other.postmaster()


def test_it_stops_when_its_home_is_deleted_and_a_new_home_there_starts_empty(here):
    with here.user():
        here.query("CREATE TABLE gone ()")
        wait_until(lambda: gone(here.home), "the home is deleted")
        wait_until(lambda: not here.numbers("bin/postgres -D"), "PostgreSQL has ended")
    assert here.query("SELECT to_regclass('gone') IS NULL") == "True"


def gone(folder: Path) -> bool:
    shutil.rmtree(folder, ignore_errors=True)  # in which PostgreSQL deletes files of its own
    return not folder.exists()


def test_a_home_whose_path_is_too_long_for_a_socket_works(tmp_path):
    with installation(tmp_path / ("long-" * 30)) as made:
        assert made.query("SELECT 1") == "1"
        assert len(os.fsencode(made.database_folder / ".s.PGSQL.5432")) < 107


def test_it_says_in_a_sentence_why_it_cannot_start(here):
    here.home.mkdir()
    (here.home / "logs").write_text("a file where the folder should be")
    answer = here.manage("migrate")
    assert answer.returncode == 1
    assert "The embedded PostgreSQL of" in answer.stderr
    assert "does not start" in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="root's privileges are dropped only if there are any")
def test_started_by_root_it_runs_as_somebody_unprivileged(here):
    with here.user():
        assert Path(f"/proc/{here.postmaster()}").stat().st_uid != 0
        assert here.database_folder.stat().st_mode & 0o077 == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="everybody can reach his own packages")
def test_programs_that_its_user_cannot_reach_are_copied_and_no_folder_is_opened(tmp_path):
    packages = tmp_path / "private"
    spec = importlib.util.find_spec(PACKAGE)
    assert spec
    assert spec.origin
    original = Path(spec.origin).parent
    install = PROGRAMS.parts[0]
    shutil.copytree(original / install, packages / PACKAGE / install)
    shutil.copytree(original.parent / LIBRARIES, packages / LIBRARIES)
    (packages / PACKAGE / "__init__.py").touch()
    packages.chmod(0o700)
    with installation(tmp_path / "home", PYTHONPATH=str(packages)) as made:
        with made.user():
            command = Path(f"/proc/{made.postmaster()}/cmdline").read_text()
        assert command.startswith(str(made.database_folder / "programs"))
        assert packages.stat().st_mode & 0o077 == 0
