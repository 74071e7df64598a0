"""The other services of an installation on one machine, run, watched and stopped together.

    with supervisor.running(say=print) as services:
        ...  # services.addresses.web, services.addresses.stripe

starts what is embedded: the Stripe simulator (unless a Stripe key is given), the web server, a
Celery worker and beat, after migrating the database. A service that dies is started again. Each
is on a leash (leash.py), which ends it when this process ends: so kill -9 leaves nothing behind.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection
from django.db.migrations.exceptions import InconsistentMigrationHistory
from django.urls import reverse

from config import plainly
from config.embedded import locks, places, server
from config.embedded.postgresql import shorten

POLL_SECONDS = 0.2
READY_SECONDS_MAX = 60.0
PAUSE_SECONDS_MAX = 10.0
HOPELESS_PAUSE_SECONDS = 2.0  # who died so often in a row while starting will not come up
HEALTHY_SECONDS = 30.0  # who lived this long did not die of its start
WORKER_PROCESSES = 2
# Those that wait for a transaction of others cost nothing, and make it a larger one.
WEB_THREADS = 64

Say = Callable[[str], None]


class CannotStart(Exception):
    """The services cannot be started; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """Where the services are. `stripe` is None if Stripe itself is used."""

    web: str
    stripe: str | None


@dataclass(frozen=True, kw_only=True)
class Running:
    """The services while they run. `start` starts one that was to be started later."""

    addresses: Addresses
    start: Callable[[str], None]


@dataclass(kw_only=True)
class Service:
    """One process to be kept alive."""

    name: str
    command: list[str]
    environment: dict[str, str]
    port: int | None = None
    is_wanted: bool = True
    process: "subprocess.Popen[bytes] | None" = None
    started: float = 0.0
    not_before: float = 0.0
    pause: float = 0.0

    def bury(self) -> None:
        """Forget a process that has ended; if it was the leash that died, end what it held."""
        assert self.process is not None
        assert self.process.stdin is not None
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.stdin.close()
        self.process = None


@contextmanager
def running(
    *, say: Say, web_port: int | None = None, later: Collection[str] = ()
) -> Iterator[Running]:
    """Run the services for as long as the block lasts. `say` gets one line for each event.

    Those named in `later` wait until they are asked for.
    SIGTERM and a closed terminal raise KeyboardInterrupt as Ctrl-C does. The settings of this
    process (Stripe's address, our own) point to the services too.
    Raises CannotStart, EmbeddedDatabaseUnavailable, and OperationalError if there is no connection.
    """
    home = places.home()
    home.mkdir(parents=True, exist_ok=True)
    (home / "logs").mkdir(exist_ok=True)
    lock = locks.take(places.supervisor_lock(home))
    if lock is None:
        raise CannotStart(
            f"The services of {home} run already, see {home / 'addresses.json'}: end them first."
        )
    with ExitStack() as stack:
        stack.callback(os.close, lock)
        stack.enter_context(_interrupted_by(signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
        group = _Group(home=home, say=say, web_port=web_port, later=later)
        stack.callback(group.stop)
        group.start()
        yield Running(addresses=group.addresses, start=group.want)


class _Group:
    """The services of one home. A thread watches them, and starts all but the first of each."""

    def __init__(
        self, *, home: Path, say: Say, web_port: int | None, later: Collection[str]
    ) -> None:
        self.home = home
        self.say = say
        ports = _Ports(home)
        stripe_port = ports.free("stripe") if settings.STRIPE_SIMULATED else None
        port = ports.free("web") if web_port is None else _require_free(web_port)
        self.addresses = Addresses(
            web=f"http://127.0.0.1:{port}",
            stripe=None if stripe_port is None else f"http://127.0.0.1:{stripe_port}",
        )
        self.services = _services(self.addresses, web_port=port, stripe_port=stripe_port)
        for service in self.services:
            service.is_wanted = service.name not in later
        self.stopping = threading.Event()
        self.watcher = threading.Thread(target=self._watch, name="supervisor", daemon=True)

    def start(self) -> None:
        self._migrate()
        wanted = [service for service in self.services if service.is_wanted]
        for service in wanted:
            self._start(service)
        settings.WEB_URL = self.addresses.web
        if self.addresses.stripe is not None:
            settings.STRIPE_API_BASE = self.addresses.stripe
        self.watcher.start()
        for service in wanted:
            self._wait_until_ready(service)
        for service in wanted:
            where = f", http://127.0.0.1:{service.port}" if service.port else ""
            self.say(f"{service.name}: up{where}")

    def want(self, name: str) -> None:
        """Have the watcher start a service that was to wait."""
        [service] = [service for service in self.services if service.name == name]
        service.is_wanted = True

    def stop(self) -> None:
        """Let go of all leashes, and wait until the services have ended."""
        self.stopping.set()
        if self.watcher.ident is not None:
            self.watcher.join()
        (self.home / "addresses.json").unlink(missing_ok=True)
        processes = [service.process for service in self.services if service.process is not None]
        if processes:
            self.say("ending all services")
        for process in processes:
            assert process.stdin is not None
            with suppress(BrokenPipeError), process.stdin as leash:
                leash.write(b".")
        for process in processes:
            process.wait()
        if processes:
            self.say("all services have ended")

    def _migrate(self) -> None:
        log = places.log(self.home, "migrate")
        self.say("database: migrating")
        with log.open("w") as output:
            try:
                call_command("migrate", interactive=False, no_color=True, stdout=output)
            except (DatabaseError, CommandError, InconsistentMigrationHistory) as error:
                if plainly.is_connection_failure(error):
                    raise
                raise CannotStart(f"The database was not migrated, see {log}: {error}") from error
            finally:
                connection.close()

    def _start(self, service: Service) -> None:
        log = places.log(self.home, service.name)
        shorten(log)
        with log.open("ab") as output:
            service.process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "config.embedded.leash", *service.command],
                cwd=places.CHECKOUT,
                env=os.environ | service.environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                process_group=0,
            )
        service.started = time.monotonic()
        self._write_addresses()

    def _write_addresses(self) -> None:
        """What other commands, and people, need to find the services: replaced as a whole.

        A service's number is that of its process group.
        """
        processes = {s.name: s.process.pid for s in self.services if s.process is not None}
        processes |= {"supervisor": os.getpid()}
        content = {"web": self.addresses.web, "stripe": self.addresses.stripe}
        draft = self.home / "addresses.json.new"
        draft.write_text(json.dumps({**content, "processes": processes}, indent=1) + "\n")
        draft.replace(self.home / "addresses.json")

    def _wait_until_ready(self, service: Service) -> None:
        deadline = time.monotonic() + READY_SECONDS_MAX
        while service.port is not None and not _answers(service.port):
            if time.monotonic() > deadline or service.pause > HOPELESS_PAUSE_SECONDS:
                log = places.log(self.home, service.name)
                raise CannotStart(f"{service.name} does not come up: its log is {log}.")
            time.sleep(0.05)

    def _watch(self) -> None:
        while not self.stopping.wait(POLL_SECONDS):
            if not settings.DATABASE_URL:
                with suppress(server.EmbeddedDatabaseUnavailable):  # the log has it; we try again
                    server.ensure()
            for service in self.services:
                self._look_after(service)

    def _look_after(self, service: Service) -> None:
        now = time.monotonic()
        if service.process is not None and service.process.poll() is not None:
            lived = now - service.started
            service.pause = (
                0.0 if lived > HEALTHY_SECONDS else min(PAUSE_SECONDS_MAX, 2 * service.pause + 0.2)
            )
            service.not_before = now + service.pause
            service.bury()
            self.say(f"{service.name}: ended, see {places.log(self.home, service.name)}")
        if service.process is None and service.is_wanted and now >= service.not_before:
            again = " again" if service.started else ""
            self._start(service)
            self.say(f"{service.name}: started{again}")


def _services(addresses: Addresses, *, web_port: int, stripe_port: int | None) -> list[Service]:
    python = sys.executable
    environment = {
        "RUNLEDGER_WEB_URL": addresses.web,
        "STRIPE_SECRET_KEY": settings.STRIPE_SECRET_KEY,
        "STRIPE_WEBHOOK_SECRET": ",".join(settings.STRIPE_WEBHOOK_SECRETS),
        "STRIPE_WEBHOOK_URL": addresses.web + reverse("stripe-webhook"),  # for the simulator
        "PYTHONUNBUFFERED": "1",
    }
    if stripe_base := addresses.stripe or settings.STRIPE_API_BASE:
        environment["STRIPE_API_BASE"] = stripe_base
    celery = [python, "-m", "celery", "-A", "config"]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    commands: list[tuple[str, list[str], int | None]] = [
        (
            "web",
            [
                *(python, "-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1"),
                *(
                    "--port",
                    str(web_port),
                    "--workers",
                    "1",
                    "--blocking-threads",
                    str(WEB_THREADS),
                ),
                # Told to end while it starts, a worker of granian never does.
                *("--workers-kill-timeout", "5"),
                *("--backpressure", str(2 * WEB_THREADS), "--no-ws", "config.wsgi:application"),
            ],
            web_port,
        ),
        ("worker", [*celery, "worker", "--concurrency", str(WORKER_PROCESSES), *quiet], None),
        ("beat", [*celery, "beat", "--pidfile="], None),
    ]
    if stripe_port is not None:
        simulator = [python, "manage.py", "stripe_simulator", "--port", str(stripe_port)]
        commands.insert(0, ("stripe", simulator, stripe_port))
    pool = {"web": {"DATABASE_POOL_SIZE": "8"}}
    return [
        Service(name=name, command=command, environment=environment | pool.get(name, {}), port=port)
        for name, command, port in commands
    ]


class _Ports:
    """Free ports: those of the last time if they still are, so that a bookmark goes on working."""

    def __init__(self, home: Path) -> None:
        self.file = home / "ports.json"
        try:
            self.last = json.loads(self.file.read_text())
        except (OSError, ValueError):
            self.last = {}

    def free(self, service: str) -> int:
        for port in (self.last.get(service, 0), 0):
            with socket.socket() as probe, suppress(OSError):
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
                self.last[service] = probe.getsockname()[1]
                break
        self.file.write_text(json.dumps(self.last))
        return int(self.last[service])


def _require_free(port: int) -> int:
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
    except (OSError, OverflowError) as error:
        raise CannotStart(
            f"The web server cannot have port {port} ({error}): choose another."
        ) from None
    return port


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def _interrupted_by(*signals: signal.Signals) -> Iterator[None]:
    """Let these signals be a Ctrl-C. Only the main thread may say so; elsewhere they stay.

    SIGINT is among them as a shell has its background jobs ignore it, and one may be sent on
    purpose; an ignored SIGHUP is left alone, as that is what nohup is for.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in signals}
    for number, handler in before.items():
        if number != signal.SIGHUP or handler != signal.SIG_IGN:
            signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
