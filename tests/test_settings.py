"""Settings: development needs nothing, production refuses to start with less than it needs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from config import broker, environment
from config.embedded import locks, places

PRODUCTION = {
    "DATABASE_URL": "postgresql://runledger:secret@db.example:5433/tokens",
    "SECRET_KEY": "k" * 40 + "0123456789!",
    "ALLOWED_HOSTS": "tokens.example, www.tokens.example",
    "RUNLEDGER_WEB_URL": "https://tokens.example/",
    "STRIPE_SECRET_KEY": "sk_live_x",
    "STRIPE_WEBHOOK_SECRET": "whsec_new,whsec_old",
    "EMAIL_URL": "smtp+tls://user:p%40ss@mail.example",
}
SHOW = "import json, sys; from django.conf import settings; " + (
    "print(json.dumps({name: getattr(settings, name) for name in sys.argv[1:]}, default=str))"
)


def python(home: Path, variables: dict[str, str], *arguments: str):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=places.CHECKOUT,
        env={"PATH": os.environ["PATH"], "DJANGO_SETTINGS_MODULE": "config.settings"}
        | {"RUNLEDGER_HOME": str(home)}
        | variables,
        text=True,
        capture_output=True,
        check=False,
    )


def settings(home: Path, variables: dict[str, str], *names: str):
    answer = python(home, variables, "-c", SHOW, *names)
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def test_development_needs_no_variable_and_starts_nothing(tmp_path):
    shown = settings(
        tmp_path, {}, "DEVELOPMENT", "DEBUG", "DATABASES", "CELERY_BROKER_URL", "STRIPE_SIMULATED"
    )
    assert shown["DEVELOPMENT"]
    assert shown["STRIPE_SIMULATED"]
    assert not shown["DEBUG"], "a page that shows variables is asked for, not a default"
    assert shown["DATABASES"]["default"]["ENGINE"] == "config.embedded.engine"
    assert shown["CELERY_BROKER_URL"] == "pgmq://"
    assert not locks.is_held(places.keeper_lock(tmp_path))


def test_development_secrets_are_random_kept_and_private(tmp_path):
    names = ("SECRET_KEY", "STRIPE_WEBHOOK_SECRETS")
    first, second = (settings(tmp_path / "one", {}, *names) for _ in range(2))
    assert first == second
    assert first != settings(tmp_path / "two", {}, *names)
    for file in (tmp_path / "one/secrets").iterdir():
        assert file.stat().st_mode & 0o777 == 0o600


def test_production_takes_everything_from_its_variables(tmp_path):
    names = ("DEVELOPMENT", "DEBUG", "ALLOWED_HOSTS", "WEB_URL", "STRIPE_WEBHOOK_SECRETS")
    shown = settings(tmp_path, PRODUCTION, *names, "SESSION_COOKIE_SECURE", "STRIPE_API_BASE")
    assert shown == {
        "DEVELOPMENT": False,
        "DEBUG": False,
        "ALLOWED_HOSTS": ["tokens.example", "www.tokens.example"],
        "WEB_URL": "https://tokens.example",
        "STRIPE_WEBHOOK_SECRETS": ["whsec_new", "whsec_old"],
        "SESSION_COOKIE_SECURE": True,
        "STRIPE_API_BASE": None,
    }
    assert not (tmp_path / "secrets").exists()


def test_production_passes_djangos_checks_for_deployment(tmp_path):
    variables = PRODUCTION | {"SECURE_HSTS_SUBDOMAINS": "1", "SECURE_HSTS_PRELOAD": "1"}
    answer = python(
        tmp_path, variables, "manage.py", "check", "--deploy", "--fail-level", "WARNING"
    )
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("name", sorted(set(PRODUCTION) - {"DATABASE_URL"}))
def test_production_refuses_to_start_without(name, tmp_path):
    variables = {key: value for key, value in PRODUCTION.items() if key != name}
    answer = python(tmp_path, variables, "manage.py", "check")
    assert answer.returncode == 1
    assert answer.stderr.startswith(f"error: {name} is not set.")
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"RUNLEDGER_DEVELOPMENT": "0"}, "error: SECRET_KEY is not set."),
        ({"RUNLEDGER_DEVELOPMENT": "yes"}, "error: RUNLEDGER_DEVELOPMENT cannot be used"),
        ({"STRIPE_SECRET_KEY": "sk_live_x"}, "error: STRIPE_SECRET_KEY cannot be used: a live key"),
        (PRODUCTION | {"DATABASE_URL": "mysql://x/y"}, "error: DATABASE_URL cannot be used"),
        (PRODUCTION | {"DATABASE_URL": "postgresql://x"}, "error: DATABASE_URL cannot be used"),
        (PRODUCTION | {"EMAIL_URL": "mail.example"}, "error: EMAIL_URL cannot be used"),
        (PRODUCTION | {"SECURE_HSTS_SECONDS": "1h"}, "error: SECURE_HSTS_SECONDS cannot be used"),
        *[
            (
                PRODUCTION | {"RUNLEDGER_SHARDS": shards},
                f"error: RUNLEDGER_SHARDS cannot be used: {shards} is none of 1, 2, 4, 8",
            )
            for shards in ("0", "3", "512")
        ],
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_sentence(variables, sentence, tmp_path):
    for command in (["manage.py", "check"], ["-m", "celery", "-A", "config", "beat"]):
        answer = python(tmp_path, variables, *command)
        assert answer.returncode == 1
        assert sentence in answer.stderr
        assert "Traceback" not in answer.stderr


def test_a_database_that_does_not_answer_is_told_in_a_sentence(tmp_path):
    variables = {
        "DATABASE_URL": "postgresql://x@127.0.0.1:9/x",
        "RUNLEDGER_DEVELOPMENT": "1",
    }
    answer = python(tmp_path, variables, "manage.py", "migrate")
    assert answer.returncode == 1
    assert answer.stderr.startswith("error: The database cannot be reached:")
    assert "DATABASE_URL" in answer.stderr

    answer = python(tmp_path, variables, "manage.py", "doctor", "--json")
    assert answer.returncode == 1
    (told,) = [f for f in json.loads(answer.stdout)["findings"] if f["verdict"] == "fail"]
    assert told["subject"] == "database"
    assert "correct DATABASE_URL" in told["text"]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "postgresql://u%40x:p%2F@db:5433/name?sslmode=require",
            {"NAME": "name", "USER": "u@x", "PASSWORD": "p/", "HOST": "db", "PORT": "5433"},
        ),
        ("postgres://me@/name?host=/run/pg", {"HOST": "/run/pg", "PORT": "", "OPTIONS": {}}),
    ],
)
def test_a_database_url_means(url, expected):
    meant = environment.database_from_url(url)
    assert {key: meant[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("url", "port", "starttls", "tls"),
    [
        ("smtp://mail.example", 25, False, False),
        ("smtps://u:p@mail.example", 465, False, True),
        ("smtp+tls://u:p@mail.example", 587, True, False),
        ("smtp+tls://u:p@mail.example:2525", 2525, True, False),
    ],
)
def test_a_mail_url_means(url, port, starttls, tls):
    meant = environment.mail_from_url(url)
    assert meant["EMAIL_PORT"] == port
    assert (meant["EMAIL_USE_TLS"], meant["EMAIL_USE_SSL"]) == (starttls, tls)


def test_the_broker_is_the_database_with_its_password_quoted_unless_another_is_named():
    database = environment.database_from_url("postgresql://u:it%27s%20me@/n?host=/run/pg")
    options = broker.transport_options("pgmq://", database=database, embedded=False)
    ours = {"dbname": "n", "host": "/run/pg", "user": "u", "password": "it's me"}
    assert conninfo_to_dict(options["conn_string"]) == ours | {"connect_timeout": "4"}
    other = broker.transport_options("pgmq://u:p@other:7/db", database=database, embedded=False)
    theirs = {"dbname": "db", "host": "other", "port": "7", "user": "u", "password": "p"}
    assert conninfo_to_dict(other["conn_string"]) == theirs | {"connect_timeout": "4"}
    assert "unacked_restore_interval" in broker.transport_options(
        "redis://r", database=database, embedded=False
    )
