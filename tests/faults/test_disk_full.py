"""The disk is full in the middle of a batch: nothing lost, nothing twice, and it goes on later."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.processes import Installation, installation

pytestmark = pytest.mark.skipif(
    not hasattr(resource, "prlimit"), reason="another process's limits are set on Linux only"
)

# Less than the runs' table grows to, more than a segment of the write-ahead log.
ROOM_BYTES = 17 * 2**20
RUNS = 120_000

ACCEPT = f"""
import django
django.setup()
from bench.scenes import Scene
scene = Scene(accounts=1_000, batches={RUNS // 10_000 - 1}, batch_runs=10_000)
scene.build()
print(len(list(scene.intakes())))
"""

DEBIT = """
import django
django.setup()
from django.db import DatabaseError
from bench.scenes import AT
from ledger import debiting
from ledger.models import Block, Intake, Run
try:
    debiting.drain_all(at=AT)
except DatabaseError as error:
    print("refused:", " ".join(str(error).split()))
sealed = sum(Block.objects.values_list("runs_count", flat=True))
print(Intake.objects.count(), Run.objects.count(), sealed)
"""


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Installation]:
    with installation(tmp_path / "home", DJANGO_SETTINGS_MODULE="config.settings") as made:
        yield made


def told(here: Installation, script: str) -> list[str]:
    answer = here.run("-c", script)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.splitlines()


def leave_room(here: Installation, room_bytes: int) -> None:
    """Those who connect to PostgreSQL from now on can make no file larger than this."""
    server = here.postmaster()
    owner = Path(f"/proc/{server}").stat()
    child = os.fork()
    if child == 0:
        # Only its own user may limit a process.
        if os.geteuid() == 0:
            os.setresgid(owner.st_gid, owner.st_gid, owner.st_gid)
            os.setresuid(owner.st_uid, owner.st_uid, owner.st_uid)
        _, most = resource.prlimit(server, resource.RLIMIT_FSIZE)
        resource.prlimit(server, resource.RLIMIT_FSIZE, (room_bytes, most))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def test_a_batch_meets_a_full_disk(here) -> None:
    with here.user():
        assert here.manage("migrate", "--verbosity", "0").returncode == 0
        assert told(here, ACCEPT) == [str(RUNS // 10_000)]

        leave_room(here, ROOM_BYTES)
        refusal, counts = told(here, DEBIT)
        assert "File too large" in refusal
        intakes, debited, sealed = (int(count) for count in counts.split())
        assert debited == sealed < RUNS
        assert intakes == (RUNS - debited) // 10_000
        assert here.manage("check_ledger").returncode == 0

        leave_room(here, resource.RLIM_INFINITY)
        assert told(here, DEBIT) == [f"0 {RUNS} {RUNS}"]
        assert here.manage("check_ledger").returncode == 0
