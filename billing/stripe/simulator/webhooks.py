"""The postman: delivers events to webhook endpoints, signed, until they are accepted.

At least once, several at a time, in no promised order, as Stripe does. Each attempt is signed with
a fresh timestamp (https://docs.stripe.com/webhooks#verify-manually). An answer outside 200-299, a
broken connection or ten seconds of silence is followed by another attempt, later and later; the
queue is in the store, so a restart loses nothing.
"""

import hashlib
import hmac
import http.client
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from billing.stripe.simulator import deliveries
from billing.stripe.simulator.store import Store
from billing.stripe.simulator.world import World

Json = dict[str, Any]

TIMEOUT = 10  # seconds
LOOK_EVERY = 0.25  # seconds
AT_ONCE_MAX = 4


def signature(payload: bytes, *, secret: str, at: int) -> str:
    """The Stripe-Signature header."""
    signed = str(at).encode() + b"." + payload
    return f"t={at},v1={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}"


class Postman:
    def __init__(self, store: Store, world: Callable[[], World]) -> None:
        self._store = store
        self._world = world
        self._rung = threading.Event()
        self._stopping = False
        self._in_hand: set[int] = set()
        self._pool = ThreadPoolExecutor(AT_ONCE_MAX, thread_name_prefix="stripe-webhook")
        self._thread = threading.Thread(target=self._run, name="stripe-postman", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def ring(self) -> None:
        """There may be something to deliver."""
        self._rung.set()

    def stop(self) -> None:
        self._stopping = True
        self.ring()
        if self._thread.is_alive():
            self._thread.join()
        self._pool.shutdown(cancel_futures=True)

    def _run(self) -> None:
        while not self._stopping:
            for row in self._due():
                self._in_hand.add(row["id"])
                self._pool.submit(self._deliver, dict(row))
            self._rung.wait(LOOK_EVERY)
            self._rung.clear()

    def _due(self) -> list[Any]:
        # Taken before the query: a delivery that ends in between is skipped, not doubled.
        in_hand = set(self._in_hand)
        rows = self._store.rows(
            "SELECT id, event, endpoint, attempts FROM delivery"
            " WHERE due_at <= ? AND NOT held"
            " AND NOT EXISTS (SELECT 1 FROM delivery AS earlier"
            "                 WHERE earlier.id = delivery.after AND earlier.attempts = 0)"
            " ORDER BY due_at, id LIMIT 100",
            time.time(),
        )
        return [row for row in rows if row["id"] not in in_hand]

    def _deliver(self, row: Json) -> None:
        try:
            endpoint = self._store.get(row["endpoint"])
            if endpoint is None or endpoint["status"] != "enabled":
                self._note(row, answer="the endpoint is gone", delivered=False, final=True)
                return
            event = self._store.get(row["event"])
            assert event is not None
            payload = json.dumps(self._world().shown(event), indent=2).encode()
            answer, delivered = _post(endpoint["url"], payload, endpoint["_secret"])
            self._note(row, answer=answer, delivered=delivered, final=False)
        finally:
            self._in_hand.discard(row["id"])
            self.ring()  # another delivery may have waited for this one

    def _note(self, row: Json, *, answer: str, delivered: bool, final: bool) -> None:
        now = time.time()
        attempts = row["attempts"] + 1
        pause = None if delivered or final else deliveries.retry_after(attempts)
        with self._store.transaction():
            self._store.run(
                "UPDATE delivery SET attempts = ?, answer = ?, delivered_at = ?, due_at = ?"
                " WHERE id = ?",
                attempts,
                answer,
                now if delivered else None,
                None if pause is None else now + pause,
                row["id"],
            )


def _post(address: str, payload: bytes, secret: str) -> tuple[str, bool]:
    """Send once. What came back, in words, and whether that counts as accepted."""
    parts = urlsplit(address)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.netloc, timeout=TIMEOUT)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
        "Stripe-Signature": signature(payload, secret=secret, at=int(time.time())),
    }
    try:
        connection.request("POST", path, payload, headers)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}", False
    finally:
        connection.close()
    return f"HTTP {status}", 200 <= status < 300
