"""The web application in front of Django: bodies that come without a length."""

from io import BytesIO
from typing import Any

import pytest

from config.chunked import with_length


def read_by_application(environ: dict[str, Any]) -> bytes:
    """The body as Django would read it: exactly as long as it is said to be."""
    seen: list[bytes] = []

    def application(environ, _start_response):
        seen.append(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))
        return []

    with_length(application)(environ, lambda *_: lambda _: None)
    return seen[0]


@pytest.mark.parametrize("stated", [{}, {"CONTENT_LENGTH": ""}])
def test_a_chunked_body_is_read_whole(stated):
    environ = {"wsgi.input": BytesIO(b"spans"), "wsgi.input_terminated": True} | stated
    assert read_by_application(environ) == b"spans"


def test_a_body_with_a_length_is_left_to_django():
    stream = BytesIO(b"spans and the next request")
    environ = {"wsgi.input": stream, "wsgi.input_terminated": True, "CONTENT_LENGTH": "5"}
    assert read_by_application(environ) == b"spans"
    assert stream.read() == b" and the next request"


def test_a_stream_that_does_not_end_by_itself_is_never_waited_for():
    assert read_by_application({"wsgi.input": BytesIO(b"for ever")}) == b""


def test_no_more_is_read_than_shows_that_it_is_too_much(settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 4
    environ = {"wsgi.input": BytesIO(b"0123456789"), "wsgi.input_terminated": True}
    assert read_by_application(environ) == b"01234"
