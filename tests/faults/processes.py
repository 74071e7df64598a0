"""Real processes of an installation of their own, in a folder of their own, and who is left."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from config.embedded import places

PATIENCE_SECONDS = 60.0  # generous: the machine may be busy with something else
LEASH = "config.embedded.leash"
CHOSEN_BY_THE_RUN = (
    "CELERY_BROKER_URL",
    "DATABASE_URL",
    "DJANGO_SETTINGS_MODULE",
    "RUNLEDGER_DEVELOPMENT",
)


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.05)


@dataclass(frozen=True)
class Installation:
    """A home, and the commands that use it."""

    home: Path
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def database_folder(self) -> Path:
        return places.database_folder(self.home)

    @property
    def environment(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if k not in CHOSEN_BY_THE_RUN}
        return inherited | {"RUNLEDGER_HOME": str(self.home)} | self.variables

    def start(
        self, *arguments: str, stdin: int | None = None, stdout: int | None = None
    ) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=places.CHECKOUT,
            env=self.environment,
            text=True,
            stdin=stdin,
            stdout=stdout,
            stderr=None if stdout is None else subprocess.STDOUT,
        )

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=places.CHECKOUT,
            env=self.environment,
            text=True,
            capture_output=True,
            timeout=PATIENCE_SECONDS * 2,
            check=False,
        )

    def manage(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return self.run("manage.py", *arguments)

    @contextmanager
    def user(self) -> Iterator["subprocess.Popen[str]"]:
        """A process that uses the database for as long as the block lasts."""
        process = self.start("-c", USER, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.communicate(timeout=PATIENCE_SECONDS)

    def query(self, statement: str) -> str:
        """The first value of the answer, asked by a process of its own."""
        answer = self.run("-c", QUERY, statement)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout.strip()

    def processes(self) -> list[str]:
        """The command lines of what runs for this home: by its environment, or its data's path."""
        home, data = f"RUNLEDGER_HOME={self.home}\0".encode(), os.fsencode(self.database_folder)
        found = []
        for folder in Path("/proc").iterdir():
            if not folder.name.isdecimal() or folder.name == str(os.getpid()):
                continue
            try:
                command = (folder / "cmdline").read_bytes()
                ours = data in command or home in (folder / "environ").read_bytes() + b"\0"
            except OSError:
                continue
            if command and ours:
                found.append(f"{folder.name} {command.replace(bytes(1), b' ').decode()}")
        return found

    def process(self, words: str) -> int:
        """The number of the first process with these words in its command line, once it is there.

        A service's leash has the service's words too: it is not meant.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (found := self.numbers(words)):
            assert time.monotonic() < deadline, f"waited in vain until {words} runs"
            time.sleep(0.05)
        return found[0]

    def numbers(self, words: str) -> list[int]:
        return sorted(
            int(line.split()[0]) for line in self.processes() if words in line and LEASH not in line
        )

    def postmaster(self) -> int:
        return self.process("bin/postgres -D")

    def wait_until_nothing_is_left(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while left := self.processes():
            assert time.monotonic() < deadline, left
            time.sleep(0.05)

    def addresses(self) -> dict[str, object]:
        answer = json.loads((self.home / "addresses.json").read_text())
        assert isinstance(answer, dict)
        return answer


@contextmanager
def installation(home: Path, **variables: str) -> Iterator[Installation]:
    """A new one, of which nothing is left afterwards: neither a process nor a folder."""
    made = Installation(home, variables)
    try:
        yield made
    finally:
        for line in made.processes():
            os.kill(int(line.split()[0]), signal.SIGKILL)
        made.wait_until_nothing_is_left()
        shutil.rmtree(made.database_folder, ignore_errors=True)


def children(parent: int) -> list[int]:
    """The processes that a process has started, the oldest first."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                after_name = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(after_name[1]) == parent:
                found.append(int(folder.name))
    return sorted(found)


def in_turn(processes: Sequence["subprocess.Popen[str]"]) -> list[int]:
    return [process.wait(PATIENCE_SECONDS) for process in processes]


USER = """
import sys
from config.embedded.server import ensure
ensure()
print("ready", flush=True)
sys.stdin.read()
"""

QUERY = """
import sys
import psycopg
from config.embedded import places
from config.embedded.server import ensure, wait_until_ready
ensure()
wait_until_ready()
with psycopg.connect(places.connection_string(places.home()), autocommit=True) as connection:
    cursor = connection.execute(sys.argv[1])
    print(cursor.fetchone()[0] if cursor.description else "")
"""
