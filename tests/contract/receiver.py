"""A webhook endpoint that keeps what it was sent, and answers as it is told."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import stripe

SECRET = "whsec_of_the_receiver"
PATIENCE = 15  # seconds


@dataclass(frozen=True, kw_only=True)
class Received:
    """One delivery: the verified event, its header, and when it came."""

    event: stripe.Event
    body: bytes
    signature: str
    at: float


class Receiver:
    def __init__(self) -> None:
        self.received: list[Received] = []
        self.answers: deque[int] = deque()
        self.secret = SECRET
        self._arrived = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hooks?from=stripe"

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def types(self) -> list[str]:
        return [delivery.event.type for delivery in self.received]

    def wait(self, enough: Callable[[list[Received]], bool]) -> list[Received]:
        """What came, once it is enough."""
        with self._arrived:
            came = self._arrived.wait_for(lambda: enough(self.received), PATIENCE)
            assert came, f"only {self.types()} came in {PATIENCE} seconds"
            return list(self.received)

    def wait_for(self, event_type: str, count: int = 1) -> list[Received]:
        def enough(received: list[Received]) -> bool:
            return sum(one.event.type == event_type for one in received) >= count

        return [one for one in self.wait(enough) if one.event.type == event_type]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                signature = self.headers["Stripe-Signature"]
                # Raises, and so answers nothing, if the signature is not right.
                event = stripe.Webhook.construct_event(body, signature, receiver.secret)
                with receiver._arrived:
                    status = receiver.answers.popleft() if receiver.answers else 200
                    receiver.received.append(
                        Received(event=event, body=body, signature=signature, at=time.time())
                    )
                    receiver._arrived.notify_all()
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        return Handler
