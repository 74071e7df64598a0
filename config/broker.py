"""The Celery broker: pgmq on our own PostgreSQL, or Redis or RabbitMQ by their URL.

The database is the queue of all work, and the broker only says "look now". So the default needs
no further service; a busier installation names one in CELERY_BROKER_URL.

A broker that takes connections and never answers is given up like one that refuses them: whoever
speaks to it waits CONNECTED_SECONDS_MAX and ANSWERED_SECONDS_MAX at most, then connects anew.
"""

from typing import Any, Final
from urllib.parse import urlsplit

import psycopg
from kombu.transport import TRANSPORT_ALIASES, pgmq
from pgmq import PGMQueue
from psycopg.conninfo import make_conninfo
from psycopg_pool import ConnectionPool

from config.embedded.server import ensure

# A task that its worker lost comes back after this. Tasks are short; a sweep comes sooner still.
VISIBILITY_SECONDS = 60
DRAIN_SECONDS_MAX = 0.3
CONNECTED_SECONDS_MAX: Final = 4
ANSWERED_SECONDS_MAX: Final = 10


def is_pgmq(url: str) -> bool:
    return url.startswith("pgmq:")


def transport_options(url: str, *, database: dict[str, Any], embedded: bool) -> dict[str, Any]:
    """What the transport needs beyond its URL."""
    if is_pgmq(url):
        # `pgmq://` alone is our own database.
        other = "postgresql" + url.removeprefix("pgmq") if urlsplit(url).hostname else ""
        return {
            # Its tables are made by a migration (config/migrations): no extension is needed.
            "init_extension": False,
            # Long polls would hold a connection each and delay shutdown; short ones cost 0.5 %.
            "wait_time_seconds": 0,
            "polling_interval": 0.1,
            "visibility_timeout": VISIBILITY_SECONDS,
            "pool_size": 4,
            "pool_timeout": ANSWERED_SECONDS_MAX,
            "embedded": embedded,
            "conn_string": make_conninfo(
                other or conninfo(database), connect_timeout=CONNECTED_SECONDS_MAX
            ),
        }
    if url.startswith(("redis", "valkey")):
        # A lost task returns within visibility + interval * throttle: by default after 100 s more.
        return {
            "visibility_timeout": VISIBILITY_SECONDS,
            "unacked_restore_interval": 2,
            "unacked_restore_throttle": 1,
            "socket_connect_timeout": CONNECTED_SECONDS_MAX,
            "socket_timeout": ANSWERED_SECONDS_MAX,
        }
    if url.startswith("amqp"):
        return {"read_timeout": ANSWERED_SECONDS_MAX, "write_timeout": ANSWERED_SECONDS_MAX}
    return {}


def conninfo(database: dict[str, Any]) -> str:
    """A database of Django's settings, as libpq takes it."""
    names = {"host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD"}
    given = {name: database[key] for name, key in names.items() if database[key]}
    ours = ("pool", "prepare_threshold")  # Django's and psycopg's, not libpq's
    options = {name: value for name, value in database["OPTIONS"].items() if name not in ours}
    return make_conninfo("", dbname=database["NAME"], **given, **options)


class Answering(psycopg.Connection[Any]):
    """A connection that is given up when the server does not answer in time."""

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        try:
            return super().wait(gen, interval, timeout or ANSWERED_SECONDS_MAX)
        except psycopg.OperationalError:
            if self.info.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
                self.close()  # nobody knows what became of the statement
            raise


class Channel(pgmq.Channel):
    """Forgets a message that it could not acknowledge, as the database was restarted meanwhile.

    pgmq counts such a message among those that the worker has in hand. When these are as many as
    it may have, it never asks for another, nor finds out that its connection is gone. The message
    comes again by itself, after VISIBILITY_SECONDS.
    """

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        try:
            super().basic_ack(delivery_tag, multiple)  # type: ignore[no-untyped-call]
        except Transport.connection_errors:
            self.qos.ack(delivery_tag)
            raise

    def basic_reject(self, delivery_tag: str, requeue: bool = False) -> None:
        try:
            super().basic_reject(delivery_tag, requeue)  # type: ignore[no-untyped-call]
        except Transport.connection_errors:
            self.qos.ack(delivery_tag)
            raise


class Transport(pgmq.Transport):
    """pgmq, which like Django's engine finds or starts the embedded server before it connects."""

    Channel = Channel

    def establish_connection(self) -> Any:
        options = self.client.transport_options if self.client else None
        if options and options.get("embedded"):
            ensure()
        return super().establish_connection()  # type: ignore[no-untyped-call]  # kombu has no types

    def _create_pgmq_client(self) -> Any:
        """As kombu's, with connections that are given up."""
        assert self.client is not None
        options = self.client.transport_options
        assert options is not None
        pool: Any = ConnectionPool(
            options["conn_string"],
            connection_class=Answering,
            min_size=1,
            max_size=options["pool_size"],
            timeout=options["pool_timeout"],
            open=True,
        )
        client = PGMQueue(
            conn_string=options["conn_string"],
            vt=options["visibility_timeout"],
            init_extension=False,
            pool=pool,
        )
        client._own_pool = True  # closed along with it
        return client

    def drain_events(self, connection: Any, timeout: float | None = None, **_: Any) -> None:
        """Wait for messages, but not for long: a worker looks only in between whether to end."""
        if timeout is not None:
            timeout = min(timeout, DRAIN_SECONDS_MAX)
        super().drain_events(connection, timeout=timeout)  # type: ignore[no-untyped-call]


TRANSPORT_ALIASES["pgmq"] = f"{__name__}:Transport"
