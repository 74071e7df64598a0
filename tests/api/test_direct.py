"""Requests that are answered before Django are answered as Django would."""

import json
import socket
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from io import BytesIO
from typing import Any

import pytest
from django.conf import settings
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import OperationalError, close_old_connections, connection, connections, transaction
from django.test import override_settings

from config import wsgi
from ledger import access
from ledger.api import direct, holds, runs
from ledger.api.bodies import Sent
from ledger.models import Intake
from tests.api.test_runs import NOW, UNREADABLE, Api, run

HOLD = {"run": "run-1", "account": "acme", "workflow": "review", "microtokens": 0}


@pytest.fixture(autouse=True)
def connection_stays_open():
    """Otherwise a request's end closes it, with the transaction that all of a test is in."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.fixture
def api(db):
    return Api()


@pytest.fixture(scope="module")
def usual():
    return get_wsgi_application()


class Away:
    """Where a database should be, nobody is at home: whoever connects is hung up on."""

    def __init__(self) -> None:
        self._asked = 0
        self._door = socket.create_server(("127.0.0.1", 0))
        self._porter = threading.Thread(target=self._turn_away)
        self._porter.start()
        # The embedded server's engine knocks twice.
        with pytest.raises(OperationalError):
            self.does(lambda: connection.ensure_connection())
        self._asked_at_once, self._asked = self._asked, 0

    @property
    def tries(self) -> float:
        """How often a connection was wanted."""
        return self._asked / self._asked_at_once

    def _turn_away(self) -> None:
        while True:
            caller, _ = self._door.accept()
            with caller:
                if not caller.recv(1024):
                    return
                self._asked += 1

    def does(self, work: Callable[[], Any]) -> Any:
        """Do it in a thread whose connection leads here."""
        host, port = self._door.getsockname()
        options = {"sslmode": "disable", "gssencmode": "disable"}

        def elsewhere() -> Any:
            here = connections["default"]
            here.settings_dict = here.settings_dict | {
                "HOST": host,
                "PORT": port,
                "OPTIONS": options,
            }
            return work()

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(elsewhere).result(20)

    def close(self) -> None:
        socket.create_connection(self._door.getsockname()).close()
        self._porter.join()
        self._door.close()


@pytest.fixture
def away(db):
    with closing(Away()) as one:
        yield one


def environ(path: str, body: object, **changes: object) -> dict[str, Any]:
    """What a WSGI server makes of a request."""
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    return {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "localhost",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(sent)),
        "wsgi.input": BytesIO(sent),
        "wsgi.url_scheme": "http",
    } | changes


def ask(application: Callable[..., Iterable[bytes]], given: dict[str, Any]):
    """The status line, the headers and the document of an answer; what differs each time is out."""
    told: list[Any] = []
    content = b"".join(application(given, lambda line, headers: told.extend((line, headers))))
    line, headers = told
    document = json.loads(content)
    for name in ("batch", "asked_at", "held_at", "expires_at"):
        if name in document:
            document[name] = "…"
    return line, sorted(headers), document


def nobody(_environ: object, _start_response: object) -> Iterable[bytes]:
    raise AssertionError("it was not answered directly")


def both_ways(usual: Callable[..., Iterable[bytes]], made: Callable[[], dict[str, Any]]):
    """What either way answers to the same request, each as if the other had not been asked."""
    answers = []
    for application in (usual, direct.directly(nobody)):
        before = transaction.savepoint()
        answers.append(ask(application, made()))
        transaction.savepoint_rollback(before)
    return answers


RUNS: list[object] = [
    run(),
    {"runs": [run(), run(id="run-2", project="merger")]},
    run(account="nobody"),
    run(id="\u2028 é / \"<&'"),
    {"runs": [run(account="\u2028<é>")]},
    {"runs": []},
    *[body for body, _, _ in UNREADABLE],
]
HOLDS: list[object] = [
    HOLD,
    HOLD | {"microtokens": 10**9},
    HOLD | {"account": "nobody"},
    HOLD | {"microtokens": -1},
    {"run": 1},
    b"",
]
REQUESTS = [("/api/v1/runs", body) for body in RUNS] + [("/api/v1/holds", body) for body in HOLDS]


CHANGES: list[dict[str, object]] = [
    {"HTTP_AUTHORIZATION": ""},
    {"HTTP_AUTHORIZATION": "Bearer rl_wrong"},
    {"HTTP_AUTHORIZATION": "Basic abc"},
    {"CONTENT_TYPE": "text/csv"},
    {"CONTENT_TYPE": ""},
]


def test_both_ways_give_the_very_same_answer(api, usual):
    authorized = {"HTTP_AUTHORIZATION": f"Bearer {api.key.secret}"}
    asked: list[tuple[str, object, dict[str, object]]] = [
        *((path, body, {}) for path, body in REQUESTS),
        *((path, HOLD, changes) for path in direct.ADDRESSES for changes in CHANGES),
    ]
    for path, body, changes in asked:
        by_django, directly = both_ways(
            usual,
            lambda: environ(path, body, **(authorized | changes)),  # noqa: B023
        )
        assert directly == by_django, (path, body, changes)


@pytest.mark.parametrize("is_secure", [False, True])
@pytest.mark.parametrize("proxy", [None, ("HTTP_X_FORWARDED_PROTO", "https")])
def test_headers_for_browsers_are_those_of_the_settings(api, is_secure, proxy):
    direct.usual_headers.cache_clear()
    changes = {"HTTP_AUTHORIZATION": f"Bearer {api.key.secret}"}
    if is_secure:
        changes |= {"HTTP_X_FORWARDED_PROTO": "https"} if proxy else {"wsgi.url_scheme": "https"}
    with override_settings(SECURE_HSTS_SECONDS=3600, SECURE_PROXY_SSL_HEADER=proxy):
        by_django, directly = both_ways(
            get_wsgi_application(), lambda: environ("/api/v1/runs", run(), **changes)
        )
    assert directly == by_django
    assert ("Strict-Transport-Security" in dict(directly[1])) == is_secure
    direct.usual_headers.cache_clear()


@pytest.mark.parametrize(
    "changes",
    [
        {"REQUEST_METHOD": "GET"},
        {"QUERY_STRING": "wait"},
        {"HTTP_HOST": "evil.example"},
        {"CONTENT_LENGTH": ""},
        {"CONTENT_LENGTH": "-1"},
        {"CONTENT_LENGTH": "²"},
        {"CONTENT_LENGTH": str(settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)},
        {"PATH_INFO": "/api/v1/runs/"},
        {"PATH_INFO": "/api/v1/heads"},
    ],
)
def test_whatever_is_special_is_djangos(changes):
    given = environ("/api/v1/runs", run(), **changes)
    answered = direct.directly(lambda _environ, _start_response: [b"Django's"])
    assert list(answered(given, nobody)) == [b"Django's"]  # type: ignore[arg-type]


def test_where_https_is_asked_for_http_is_djangos():
    answered = direct.directly(lambda _environ, _start_response: [b"Django's"])
    given = environ("/api/v1/runs", run())
    with override_settings(SECURE_SSL_REDIRECT=True):
        assert list(answered(given, nobody)) == [b"Django's"]  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["", "local host", "a,b", "[::1", "évil.example"])
def test_a_host_that_cannot_be_read_is_djangos_whatever_hosts_are_ours(host):
    answered = direct.directly(lambda _environ, _start_response: [b"Django's"])
    given = environ("/api/v1/runs", run(), HTTP_HOST=host)
    with override_settings(ALLOWED_HOSTS=["*"]):
        assert list(answered(given, nobody)) == [b"Django's"]  # type: ignore[arg-type]


def test_a_refusal_is_logged_the_same_both_ways(api, usual, caplog):
    for path in direct.ADDRESSES:
        caplog.clear()
        both_ways(usual, lambda: environ(path, run()))  # noqa: B023
        by_django, directly = caplog.records
        for name in ("name", "levelname", "status_code"):
            assert getattr(directly, name) == getattr(by_django, name)
        assert directly.getMessage() == by_django.getMessage()
        assert directly.__dict__["status_code"] == 401


@pytest.mark.parametrize("path", direct.ADDRESSES)
def test_a_database_that_is_away_is_asked_once_and_told_as_django_tells_it(
    usual, caplog, path, away
):
    given = environ(path, HOLD, HTTP_AUTHORIZATION="Bearer rl_x")

    def ask_for(application: Callable[..., Iterable[bytes]]) -> tuple[str, list[Any], bytes]:
        told: list[Any] = []
        asked = given | {"wsgi.input": BytesIO(given["wsgi.input"].getvalue())}
        answer = application(asked, lambda line, headers: told.extend((line, headers)))
        return told[0], sorted(told[1]), b"".join(answer)

    by_django = away.does(lambda: ask_for(usual))
    tries = away.tries
    directly = away.does(lambda: ask_for(direct.directly(nobody)))
    assert directly == by_django
    assert directly[0] == "500 Internal Server Error"
    assert (tries, away.tries - tries) == (1, 1)
    records = [one for one in caplog.records if one.name == "django.request"]
    assert len(records) == 2
    for record in records:
        assert (record.levelname, record.__dict__["status_code"]) == ("ERROR", 500)
        assert record.exc_info is not None
        assert record.exc_info[0] is OperationalError


@pytest.mark.parametrize("work", [runs._take_all, holds._decide_all])
def test_a_database_that_is_away_is_asked_once_for_all_who_wait_together(work, away):
    sent = Sent(secret="rl_x", body=json.dumps(HOLD).encode(), content_type="application/json")
    with pytest.raises(OperationalError):
        away.does(lambda: work([sent] * 5))
    assert away.tries == 1


def test_the_web_application_answers_directly_and_a_revoked_key_opens_nothing(api):
    def post(run_id: str):
        key = f"Bearer {api.key.secret}"
        given = environ("/api/v1/runs", run(id=run_id), HTTP_AUTHORIZATION=key)
        return ask(wsgi.application, given)

    line, _, document = post("run-1")
    assert (line, document["runs"][0]["tokens"]) == ("202 Accepted", "3")
    assert Intake.objects.count() == 1
    access.revoke_api_key(key_id=api.key.key_id, at=NOW)
    assert post("run-2")[0] == "401 Unauthorized"
    assert Intake.objects.count() == 1
