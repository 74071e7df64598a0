"""Bodies without a length.

OpenTelemetry's exporter for Node sends `Transfer-Encoding: chunked` without Content-Length, and
Django under WSGI takes that for an empty body. Servers that end the stream themselves say so
(`wsgi.input_terminated`, granian and gunicorn do): then reading it tells the length.
"""

from collections.abc import Iterable
from io import BytesIO
from typing import TYPE_CHECKING

from django.conf import settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def with_length(application: "WSGIApplication") -> "WSGIApplication":
    def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if not environ.get("CONTENT_LENGTH") and environ.get("wsgi.input_terminated"):
            # One byte beyond the limit is enough for Django to refuse the body as too large.
            body = environ["wsgi.input"].read(settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)
            environ["wsgi.input"] = BytesIO(body)
            environ["CONTENT_LENGTH"] = str(len(body))
        return application(environ, start_response)

    return answer
