"""The two addresses that nearly all requests are for, answered without Django's way to a view.

That way (its handler, the middleware, REST framework's view) costs more than taking a run or
deciding a hold. So plain requests to these addresses are answered before it, by the same
functions that the views call; anything that is special in any way goes the usual way: another
method, a query, a body without a length or too long, a host that is not ours, or http where https
is asked for. Both ways give the very same answers (tests/api/test_direct.py), also to a fault of
our own. That is not tried again: the database may be away, and each try waits for it.
"""

import logging
from collections.abc import Callable, Iterable
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import msgspec
from django.conf import settings
from django.core.handlers.exception import response_for_exception
from django.core.handlers.wsgi import WSGIRequest
from django.core.signals import request_finished, request_started
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.http.request import split_domain_port, validate_host
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.security import SecurityMiddleware

from ledger.api import holds, problems, runs
from ledger.api.authority import secret_of
from ledger.api.bodies import Sent

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# A request's status and answer. It may raise what problems.document_of has a document for.
Answering = Callable[[Sent], tuple[int, bytes]]

ADDRESSES: Final[dict[str, Answering]] = {
    "/api/v1/runs": runs.acknowledge,
    "/api/v1/holds": holds.decide,
}
_LINES: Final = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}

_log = logging.getLogger("django.request")


def directly(application: "WSGIApplication") -> "WSGIApplication":
    """Before Django's application: answers plain requests to ADDRESSES itself."""

    def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        answering = ADDRESSES.get(environ["PATH_INFO"])
        if answering is None or not _is_plain(environ):
            return application(environ, start_response)
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        # As Django's handler does, for those who have a connection: whoever waits for others has
        # none, and whoever worked for them gives it back to the pool.
        if connection.connection is not None:
            request_started.send(sender=directly, environ=environ)
        try:
            status, content_type, content = _answer(answering, environ, body)
            headers = [("Content-Type", content_type), ("Allow", "POST, OPTIONS")]
        except Exception as error:  # noqa: BLE001  it is logged there
            response = response_for_exception(WSGIRequest(environ), error)
            status, content, headers = response.status_code, response.content, [*response.items()]
        finally:
            if connection.connection is not None:
                request_finished.send(sender=directly)
        headers += [("Content-Length", str(len(content))), *usual_headers(_is_secure(environ))]
        if status == HTTPStatus.UNAUTHORIZED:
            headers.append(("WWW-Authenticate", "Bearer"))
        start_response(_LINES[status], headers)
        return [content]

    return answer


def _is_plain(environ: "WSGIEnvironment") -> bool:
    length = environ.get("CONTENT_LENGTH", "")
    domain, _ = split_domain_port(environ.get("HTTP_HOST", ""))
    return (
        environ["REQUEST_METHOD"] == "POST"
        and not environ.get("QUERY_STRING")
        and length.isascii()
        and length.isdecimal()
        and int(length) <= settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        and domain != ""  # there is none, or it can't be read
        and validate_host(domain, settings.ALLOWED_HOSTS)
        and (_is_secure(environ) or not settings.SECURE_SSL_REDIRECT)
    )


def _answer(
    answering: Answering, environ: "WSGIEnvironment", body: bytes
) -> tuple[int, str, bytes]:
    try:
        content_type = environ.get("CONTENT_TYPE", "")
        sent = Sent(secret=secret_of(environ), body=body, content_type=content_type)
        status, content = answering(sent)
    except Exception as error:
        document = problems.document_of(error)
        if document is None:
            raise
        status = document["status"]
        # As Django's handler does.
        _log.warning(
            "%s: %s",
            HTTPStatus(status).phrase,
            environ["PATH_INFO"],
            extra={"status_code": status},
        )
        return status, problems.CONTENT_TYPE, msgspec.json.encode(document)
    return status, "application/json", content


def _is_secure(environ: "WSGIEnvironment") -> bool:
    """As HttpRequest.is_secure."""
    if settings.SECURE_PROXY_SSL_HEADER is not None:
        name, secure = settings.SECURE_PROXY_SSL_HEADER
        if (said := environ.get(name)) is not None:
            return bool(said.partition(",")[0].strip() == secure)
    return bool(environ["wsgi.url_scheme"] == "https")


@cache
def usual_headers(is_secure: bool) -> list[tuple[str, str]]:
    """What the middleware adds to every answer of the API."""

    class Request(HttpRequest):
        def _get_scheme(self) -> str:
            return "https" if is_secure else "http"

    def nothing(request: HttpRequest) -> Any:
        return HttpResponse()

    request, response = Request(), HttpResponse()
    for middleware in (XFrameOptionsMiddleware, SecurityMiddleware):
        response = middleware(nothing).process_response(request, response)
    return [(name, value) for name, value in response.items() if name != "Content-Type"]
