"""Everything that the simulator remembers, in one SQLite file.

An answer is only sent after its transaction is on the disk (WAL, synchronous=FULL), with the
objects, the events, the deliveries and the idempotency key of the request in the same transaction:
killing the simulator at any moment loses nothing that was acknowledged, and doubles nothing.

One connection, one lock: requests are carried out one after the other. The simulator is a stand-in,
not a service; order is worth more to it than speed.
"""

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Json = dict[str, Any]

FILE_NAME = "stripe-simulator.sqlite3"
LOG_ROWS_MAX = 20_000

SCHEMA = """
CREATE TABLE IF NOT EXISTS object (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS object_kind ON object (kind, position);
CREATE TABLE IF NOT EXISTS idempotency_key (
    key TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    status INTEGER NOT NULL,
    body TEXT NOT NULL,
    kept_at INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS delivery (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    event TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due_at REAL,            -- wall clock; null: delivered, or given up
    delivered_at REAL,
    held INTEGER NOT NULL DEFAULT 0,
    after INTEGER,          -- a delivery that must have been attempted before this one
    answer TEXT
);
CREATE INDEX IF NOT EXISTS delivery_due ON delivery (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS delivery_event ON delivery (event);
CREATE TABLE IF NOT EXISTS fault (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    left_over INTEGER NOT NULL,
    body TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS request (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    body TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS setting (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


class StoreInUse(Exception):
    """Another simulator works on this file."""


class Store:
    """Objects by id and kind; rows of the other tables by plain SQL."""

    def __init__(self, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.file = home / FILE_NAME
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(
            self.file, isolation_level=None, check_same_thread=False, timeout=0.5
        )
        self._connection.row_factory = sqlite3.Row
        try:
            # Exclusive, so that a second simulator on the same home is refused at its start.
            self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.executescript(f"BEGIN; {SCHEMA} COMMIT;")
        except sqlite3.OperationalError as error:
            self._connection.close()
            raise StoreInUse(f"{self.file} is in use by another simulator") from error

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, and nobody else in between."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undo what is inside if it raises; the transaction around it goes on."""
        self._connection.execute("SAVEPOINT inner")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK TO inner")
            self._connection.execute("RELEASE inner")
            raise
        self._connection.execute("RELEASE inner")

    def rows(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        with self._lock:
            return self._connection.execute(sql, values).fetchall()

    def run(self, sql: str, *values: Any) -> int:
        """Carry out one statement; the id of the row it inserted, if it did."""
        with self._lock:
            return self._connection.execute(sql, values).lastrowid or 0

    def get(self, object_id: str) -> Json | None:
        for row in self.rows("SELECT body FROM object WHERE id = ?", object_id):
            found: Json = json.loads(row["body"])
            return found
        return None

    def put(self, body: Json) -> None:
        """Save an object: a new one comes last in its kind, a known one keeps its place."""
        self.run(
            "INSERT INTO object (id, kind, body) VALUES (?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET body = excluded.body",
            body["id"],
            body["object"],
            json.dumps(body),
        )

    def remove(self, object_id: str) -> None:
        self.run("DELETE FROM object WHERE id = ?", object_id)

    def find(self, kind: str, **fields: Any) -> list[Json]:
        """Objects of a kind whose fields ("a__b": b inside a) equal the values; oldest first."""
        # Field names are the simulator's own words, never a request's.
        conditions = "".join(
            f" AND json_extract(body, '$.{name.replace('__', '.')}') IS ?" for name in fields
        )
        rows = self.rows(
            f"SELECT body FROM object WHERE kind = ?{conditions} ORDER BY position",  # noqa: S608
            kind,
            *fields.values(),
        )
        return [json.loads(row["body"]) for row in rows]

    def setting(self, name: str, default: Any = None) -> Any:
        for row in self.rows("SELECT value FROM setting WHERE name = ?", name):
            return json.loads(row["value"])
        return default

    def set(self, name: str, value: Any) -> None:
        self.run("INSERT OR REPLACE INTO setting VALUES (?, ?)", name, json.dumps(value))

    def log(self, entry: Json) -> None:
        """Remember a request and its answer, and forget the oldest of too many."""
        row = self.run("INSERT INTO request (body) VALUES (?)", json.dumps(entry))
        self.run("DELETE FROM request WHERE id <= ?", row - LOG_ROWS_MAX)

    def clear(self) -> None:
        for table in ("object", "idempotency_key", "delivery", "fault", "request", "setting"):
            self.run(f"DELETE FROM {table}")  # noqa: S608
