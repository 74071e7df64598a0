"""Requests that are answered before Django are answered as Django would."""

import json
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any

import pytest
from django.conf import settings
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections, transaction
from django.test import override_settings

from config import wsgi
from ledger import access
from ledger.api import direct
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
def test_headers_for_browsers_are_those_of_the_settings(api, is_secure, proxy, monkeypatch):
    monkeypatch.setattr(direct, "_headers", {})
    changes = {"HTTP_AUTHORIZATION": f"Bearer {api.key.secret}"}
    if is_secure:
        changes |= {"HTTP_X_FORWARDED_PROTO": "https"} if proxy else {"wsgi.url_scheme": "https"}
    with override_settings(SECURE_HSTS_SECONDS=3600, SECURE_PROXY_SSL_HEADER=proxy):
        by_django, directly = both_ways(
            get_wsgi_application(), lambda: environ("/api/v1/runs", run(), **changes)
        )
    assert directly == by_django
    assert ("Strict-Transport-Security" in dict(directly[1])) == is_secure


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


def test_a_fault_of_our_own_is_djangos_to_tell_with_the_body_still_there(monkeypatch):
    def fail(_sent: object) -> tuple[int, bytes]:
        raise ZeroDivisionError

    monkeypatch.setitem(direct.ADDRESSES, "/api/v1/runs", fail)
    answered = direct.directly(lambda environ, _: [environ["wsgi.input"].read()])
    given = environ("/api/v1/runs", run(), HTTP_AUTHORIZATION="Bearer rl_x")
    assert json.loads(b"".join(answered(given, nobody))) == run()  # type: ignore[arg-type]


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
