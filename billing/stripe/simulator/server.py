"""The HTTP server: loopback only, a thread per connection, connections kept open.

/v1/…            Stripe's API                 engine.py
/c/pay/…, /i/…   the hosted pages             pages.py
/p/session/…     the customer's portal        portal.py
/_sim…           the simulator's own          control.py
"""

import json
import socket
import struct
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

# Imported for what they register: each says which operations it carries out.
from billing.stripe.simulator import (
    catalog,  # noqa: F401
    contract,
    control,
    credit_notes,  # noqa: F401
    customers,  # noqa: F401
    invoices,  # noqa: F401
    pages,
    portal,
)
from billing.stripe.simulator.engine import Call, ConnectionBroken, Engine
from billing.stripe.simulator.errors import InvalidParameters, Refused
from billing.stripe.simulator.store import Store
from billing.stripe.simulator.webhooks import Postman

HOST = "127.0.0.1"
BODY_BYTES_MAX = 1 << 20
IDLE_SECONDS_MAX = 120
TICK = 1.0  # seconds

PAGES = {
    "/c/pay/": pages.checkout_page,
    "/i/": pages.invoice_page,
    "/p/session/": portal.portal_page,
}
JSON = "application/json"
HTML = "text/html; charset=utf-8"


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    body: bytes = b""
    content_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)


def _json(status: int, body: Any, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status=status, body=json.dumps(body).encode(), headers=named)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "stripe-simulator"
    sys_version = ""
    timeout = IDLE_SECONDS_MAX
    # One packet an answer: without this, small answers wait for the other side's acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: "Server"

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_DELETE(self) -> None:
        self._serve("DELETE")

    def _serve(self, method: str) -> None:
        try:
            answer = self._answer(method)
        except ConnectionBroken:
            self._break_connection()
            return
        except Exception as error:  # noqa: BLE001 - the edge: whoever asked must hear of it
            traceback.print_exc()
            message = f"the simulator failed: {error!r}"
            answer = _json(500, {"error": {"type": "api_error", "message": message}})
        self._send(answer)
        self.server.postman.ring()

    def _answer(self, method: str) -> Answer:
        body = self._body()
        if body is None:
            self.close_connection = True
            message = f"a body of a known length, at most {BODY_BYTES_MAX} bytes, is needed"
            return _json(413, {"error": {"type": "invalid_request_error", "message": message}})
        parts = urlsplit(self.path)
        engine = self.server.engine
        if parts.path.startswith("/_sim"):
            query = dict(parse_qsl(parts.query))
            return _json(*control.answer(engine, method, parts.path, query, body))
        if parts.path.startswith(tuple(PAGES)) and method != "DELETE":
            return self._page(method, parts.path, body)
        return self._api(method, parts.path, parts.query, body)

    def _body(self) -> bytes | None:
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdigit():
            return None
        if int(length) > BODY_BYTES_MAX:
            return None
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            # Whoever asked was killed meanwhile: half a request is none, and uses up no key.
            raise ConnectionBroken
        return body

    def _api(self, method: str, path: str, query: str, body: bytes) -> Answer:
        try:
            pairs = _pairs(query) + _pairs(body.decode(errors="replace"))
        except InvalidParameters as refusal:
            return _json(refusal.status, refusal.body)
        call = Call(method=method, path=path, pairs=pairs, headers=dict(self.headers))
        outcome = self.server.engine.answer(call)
        headers = {"Request-Id": call.id}
        if call.idempotency_key:
            headers["Idempotency-Key"] = call.idempotency_key
        if outcome.replayed:
            headers["Idempotent-Replayed"] = "true"
        body = json.dumps(outcome.body, indent=2).encode()
        return Answer(status=outcome.status, body=body, headers=headers)

    def _page(self, method: str, path: str, body: bytes) -> Answer:
        form = dict(parse_qsl(body.decode(errors="replace"))) if method == "POST" else None
        engine = self.server.engine
        mishaps = engine.strike(method, path)
        show = next(page for start, page in PAGES.items() if path.startswith(start))
        world = engine.world(decline=mishaps.get("decline", "code"))
        try:
            with engine.store.transaction():
                page = show(world, path.rstrip("/").rsplit("/", 1)[1], form)
        except Refused as refusal:
            page = pages.note("This cannot be paid", str(refusal), status=refusal.status)
        if "reset_after_commit" in mishaps:
            raise ConnectionBroken
        headers = {
            "Cache-Control": "no-store",
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
        }
        if page.location:
            headers["Location"] = page.location
        return Answer(
            status=page.status, body=page.body.encode(), content_type=HTML, headers=headers
        )

    def _send(self, answer: Answer) -> None:
        try:
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(answer.body)))
            for name, value in answer.headers.items():
                self.send_header(name, value.replace("\r", "").replace("\n", ""))
            self.end_headers()
            self.wfile.write(answer.body)
            self.wfile.flush()
        except ConnectionError:  # whoever asked did not wait
            self.close_connection = True

    def _break_connection(self) -> None:
        """Close so that the other side sees a reset, not an end."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its inherited name
        """Say nothing: /_sim/requests has the log."""


def _pairs(form: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(form, keep_blank_values=True, strict_parsing=bool(form))
    except ValueError as error:
        raise InvalidParameters(f"The form cannot be read: {error}") from error


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    engine: Engine
    postman: Postman

    def shutdown_request(self, request: Any) -> None:
        lingering = request.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)
        if struct.unpack("ii", lingering)[0]:
            self.close_request(request)  # a shutdown before the close would end it politely
        else:
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke is the other side's affair; anything else is printed."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class Simulator:
    """The whole of it: server, postman and clock over one store. Not started yet."""

    def __init__(
        self,
        *,
        home: Path,
        port: int = 0,
        webhook_url: str | None = None,
        webhook_secret: str | None = None,
    ) -> None:
        if bool(webhook_url) != bool(webhook_secret):
            raise ValueError("the webhook needs both its URL and its secret")
        self.store = Store(home)
        try:
            self.server = Server((HOST, port), Handler)
        except OSError:
            self.store.close()
            raise
        self.address = f"http://{HOST}:{self.server.server_address[1]}"
        engine = Engine(
            self.store,
            contract.load(home),
            address=self.address,
            local_endpoint=(webhook_url, webhook_secret)
            if webhook_url and webhook_secret
            else None,
        )
        self.server.engine = engine
        self.server.postman = self._postman = Postman(self.store, engine.world)
        with self.store.transaction():
            engine.register_endpoint()
        self._stopped = threading.Event()
        self._clock = threading.Thread(target=self._tick, name="stripe-clock", daemon=True)

    def serve(self) -> None:
        """Answer until `stop`, or until interrupted."""
        self._postman.start()
        self._clock.start()
        self.server.serve_forever(poll_interval=0.05)

    def stop(self) -> None:
        """Stop answering, from another thread than the one that serves."""
        self.server.shutdown()
        self.close()

    def close(self) -> None:
        self._stopped.set()
        self.server.server_close()
        if self._clock.is_alive():  # not if it was told to stop before it began
            self._clock.join()
        self._postman.stop()
        self.store.close()

    def _tick(self) -> None:
        while not self._stopped.wait(TICK):
            self.server.engine.pass_time()
            self._postman.ring()


@contextmanager
def running(
    *, home: Path, webhook_url: str | None = None, webhook_secret: str | None = None, port: int = 0
) -> Iterator[str]:
    """A simulator in a thread of this process; its address."""
    simulator = Simulator(
        home=home, port=port, webhook_url=webhook_url, webhook_secret=webhook_secret
    )
    thread = threading.Thread(target=simulator.serve, name="stripe-simulator", daemon=True)
    thread.start()
    try:
        yield simulator.address
    finally:
        simulator.stop()
        thread.join()
