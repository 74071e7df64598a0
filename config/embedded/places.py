"""Where an installation keeps what it writes. Nothing here touches the disk.

The *home* (`.runledger` in the checkout, or RUNLEDGER_HOME) has locks, logs, mail, addresses and
secrets. The *database folder* has PostgreSQL's data and socket. It is in the home, except

- for root, as PostgreSQL refuses to run as root: it runs as an unprivileged user, who may not be
  able to reach the home (a checkout under /root); opening the way by chmod would be rude;
- where the socket's path would be too long for the kernel (107 bytes).

Then it is a folder in /var/tmp, named after the home's path. Every path follows from the home's,
so any process can tell the database's address without asking anyone, and two never share one.
"""

import hashlib
import os
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent.parent
DATABASE = "runledger"
USER = "runledger"
SOCKET = ".s.PGSQL.5432"
SOCKET_BYTES_MAX = 100  # 107 on Linux and 103 on macOS, and a little for the lock beside it


def home() -> Path:
    """The installation's folder for everything it writes."""
    return Path(os.environ.get("RUNLEDGER_HOME") or CHECKOUT / ".runledger").resolve()


def database_folder(home: Path) -> Path:
    """The folder of PostgreSQL's data and socket."""
    inside = home / "postgresql"
    if os.geteuid() != 0 and len(os.fsencode(inside / SOCKET)) <= SOCKET_BYTES_MAX:
        return inside
    name = hashlib.sha256(f"{os.geteuid()} {home}".encode()).hexdigest()[:16]
    lasting = Path("/var/tmp")  # noqa: S108 - the folder within is created private, and checked
    shared = lasting if lasting.is_dir() else Path(tempfile.gettempdir())
    return shared / f"runledger-{name}"


def connection_string(home: Path, *, database: str = DATABASE) -> str:
    """The server's address as libpq takes it."""
    return f"host='{database_folder(home)}' port=5432 user={USER} dbname={database}"


def settings(home: Path) -> dict[str, object]:
    """The server's address as Django takes it."""
    return {
        "ENGINE": "config.embedded.engine",
        "NAME": DATABASE,
        "USER": USER,
        "PASSWORD": "",
        "HOST": str(database_folder(home)),
        "PORT": "5432",
        "OPTIONS": {},
    }


def users_lock(home: Path) -> Path:
    """Held, shared, by every process that uses the database."""
    return home / "users.lock"


def start_lock(home: Path) -> Path:
    """Held by the one process that is starting a keeper."""
    return home / "start.lock"


def keeper_lock(home: Path) -> Path:
    """Held by the keeper for as long as it lives."""
    return home / "keeper.lock"


def supervisor_lock(home: Path) -> Path:
    """Held by the supervisor of the home's services."""
    return home / "supervisor.lock"


def log(home: Path, service: str) -> Path:
    return home / "logs" / f"{service}.log"
