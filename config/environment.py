"""What Runledger reads from the environment. docs/operations.md explains every variable.

There are two modes. *Development* needs nothing: what is not given is embedded (PostgreSQL, the
broker on it, a simulated Stripe, mail in a folder) and secrets are random and kept in the home
folder. *Production* takes everything from the environment and refuses to start without it,
because a default would be either insecure or silently lose mail and money.

An installation is in production as soon as it has a database of its own (DATABASE_URL), unless
RUNLEDGER_DEVELOPMENT says otherwise: forgetting a variable can then only make it stricter.
"""

import json
import os
import secrets
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

from config.embedded import locks
from config.embedded.places import CHECKOUT, home, supervisor_lock

__all__ = ["CHECKOUT", "home"]

SIMULATED_STRIPE_KEY = "sk_test_simulated"  # of development without a key of its own
MAIL_SCHEMES = {"smtp": (False, False), "smtps": (False, True), "smtp+tls": (True, False)}


class SettingMissing(ImproperlyConfigured):
    """A variable that production cannot do without is not set."""

    def __init__(self, name: str, purpose: str) -> None:
        super().__init__(
            f"{name} is not set. {purpose} (With a DATABASE_URL, Runledger runs as in production;"
            " RUNLEDGER_DEVELOPMENT=1 makes it a development installation.)"
        )


class SettingInvalid(ImproperlyConfigured):
    """A variable is set to something that cannot be meant."""

    def __init__(self, name: str, rule: str) -> None:
        super().__init__(f"{name} cannot be used: {rule}")


def development() -> bool:
    """Whether insecure but convenient defaults are wanted."""
    wanted = os.environ.get("RUNLEDGER_DEVELOPMENT", "")
    if wanted not in ("", "0", "1"):
        raise SettingInvalid("RUNLEDGER_DEVELOPMENT", f"{wanted!r} is neither 1 nor 0.")
    return wanted == "1" or (wanted == "" and not os.environ.get("DATABASE_URL"))


def flag(name: str, *, default: bool) -> bool:
    value = os.environ.get(name, "")
    if value not in ("", "0", "1"):
        raise SettingInvalid(name, f"{value!r} is neither 1 nor 0.")
    return default if value == "" else value == "1"


def number(name: str, *, default: int) -> int:
    value = os.environ.get(name, "")
    if value and not value.isdecimal():
        raise SettingInvalid(name, f"{value!r} is not a whole number.")
    return int(value) if value else default


def power_of_two(name: str, *, default: int, most: int) -> int:
    value = number(name, default=default)
    if not 1 <= value <= most or value.bit_count() != 1:
        raise SettingInvalid(name, f"{value} is none of 1, 2, 4, 8 and so on up to {most}.")
    return value


def words(name: str) -> list[str]:
    """A list, separated by commas."""
    return [word.strip() for word in os.environ.get(name, "").split(",") if word.strip()]


def required(name: str, *, in_development: str, purpose: str) -> str:
    """The variable's value; without one, `in_development` there and a refusal in production."""
    value = os.environ.get(name, "")
    if value:
        return value
    if development():
        return in_development
    raise SettingMissing(name, purpose)


def kept_secret(name: str) -> str:
    """A random secret of this development installation, the same in all of its processes.

    It is kept in the home folder, readable by its owner alone. If the folder cannot be written
    the secret lives as long as the process; `manage.py doctor` then says so.
    """
    path = home() / "secrets" / name
    for _ in range(2):
        with suppress(OSError):
            return path.read_text()
        with suppress(OSError):
            _create_once(path, secrets.token_urlsafe(48))
    return secrets.token_urlsafe(48)


def _create_once(path: Path, text: str) -> None:
    """Write a file that nobody else can read, whole or not at all, if it is not there yet."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    with suppress(FileExistsError):
        os.link(draft, path)
    draft.unlink()


def services_up() -> dict[str, str]:
    """Addresses of the services that the supervisor of this home runs now, if it does."""
    try:
        if not locks.is_held(supervisor_lock(home())):
            return {}
        addresses = json.loads((home() / "addresses.json").read_text())
    except (OSError, ValueError):
        return {}
    return addresses if isinstance(addresses, dict) else {}


def database_from_url(url: str) -> dict[str, object]:
    """postgresql://user:password@host:port/name?host=/socket/folder as Django wants it."""
    parts = urlsplit(url)
    if parts.scheme not in ("postgresql", "postgres"):
        raise SettingInvalid(
            "DATABASE_URL", "it must begin with postgresql://, as Runledger needs PostgreSQL."
        )
    if not parts.path.lstrip("/"):
        raise SettingInvalid("DATABASE_URL", "it names no database: postgresql://user@host/NAME.")
    options = dict(parse_qsl(parts.query))
    try:
        port = parts.port
    except ValueError as error:
        raise SettingInvalid("DATABASE_URL", f"{error}.") from error
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": options.pop("host", unquote(parts.hostname or "")),
        "PORT": options.pop("port", str(port or "")),
        "OPTIONS": options,
    }


def mail_from_url(url: str) -> dict[str, object]:
    """Django's mail settings: smtp://, smtps://, smtp+tls:// user:password@host:port, console:."""
    parts = urlsplit(url)
    if parts.scheme == "console":
        return {"EMAIL_BACKEND": "django.core.mail.backends.console.EmailBackend"}
    if parts.scheme == "file":
        return {
            "EMAIL_BACKEND": "django.core.mail.backends.filebased.EmailBackend",
            "EMAIL_FILE_PATH": unquote(parts.path),
        }
    if parts.scheme not in MAIL_SCHEMES or not parts.hostname:
        raise SettingInvalid(
            "EMAIL_URL",
            "write smtp://, smtps:// or smtp+tls://user:password@host:port,"
            " file:///folder or console:",
        )
    starttls, implicit_tls = MAIL_SCHEMES[parts.scheme]
    return {
        "EMAIL_BACKEND": "django.core.mail.backends.smtp.EmailBackend",
        "EMAIL_HOST": parts.hostname,
        "EMAIL_PORT": parts.port or (465 if implicit_tls else 587 if starttls else 25),
        "EMAIL_HOST_USER": unquote(parts.username or ""),
        "EMAIL_HOST_PASSWORD": unquote(parts.password or ""),
        "EMAIL_USE_TLS": starttls,
        "EMAIL_USE_SSL": implicit_tls,
        "EMAIL_TIMEOUT": 20,
    }
