"""Holds over HTTP: web server, PostgreSQL and 32 clients on one machine, everything durable.

Each client asks for its next hold as soon as it has its last one's answer, over a connection that
stays open: at 1,000 accounts, one after the other, and all on one hot account.
"""

import json
import selectors
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from time import perf_counter
from typing import Final
from urllib.parse import urlsplit

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from bench import database
from bench.figures import Figure
from bench.http import services
from ledger import access, catalog
from ledger.catalog import NewRate
from ledger.models import Account, Lot, Standing
from ledger.units import LOT_MICROTOKENS_MAX, SHARDS, shard_of_code

CLIENTS: Final = 32
ACCOUNTS: Final = 1_000
LOTS: Final = 5
WARM_SECONDS: Final = 2.0
SECONDS: Final = 6.0
HOLDS_PER_SECOND_BAR: Final = 2_000
P99_MS_BAR: Final = 25
_ENDED: Final = b"\r\n\r\n"


def measure(*, batches: int, repetitions: int) -> Iterator[Figure]:
    database.empty()
    secret = _accounts()
    with services() as address:
        for accounts_count in (ACCOUNTS, 1):
            taken = _ask(address, secret, accounts_count)
            where = "one hot account" if accounts_count == 1 else f"{accounts_count:,} accounts"
            yield Figure(
                name=f"holds over HTTP, {CLIENTS} clients, {where}",
                value=taken.per_second,
                unit="holds/s",
                least=HOLDS_PER_SECOND_BAR,
            )
            yield Figure(
                name=f"the same, 99th percentile (half: {taken.percentile_ms(50):.0f} ms)",
                value=taken.percentile_ms(99),
                unit="ms",
                most=P99_MS_BAR,
            )


@dataclass
class _Taken:
    """What was answered in the time that counts."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.seconds

    def percentile_ms(self, percent: int) -> float:
        ordered = sorted(self.latencies)
        return 1_000 * ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def _accounts() -> str:
    """A book with its accounts, each with lots of plenty; a key of it."""
    at = timezone.now()
    book_id = catalog.create_book(code="bench", name="Bench")
    unit_id = catalog.create_unit(book_id=book_id, code="work", name="Work", sentence="Work.")
    catalog.create_engine(book_id=book_id, code="engine", name="Engine")
    catalog.create_meter(book_id=book_id, code="executions", name="Executions")
    rate_card_id = catalog.publish_rate_card(
        book_id=book_id,
        unit_id=unit_id,
        code="standard",
        name="Standard",
        effective_at=at - timedelta(days=1),
        rates=[NewRate(meter="executions")],
        at=at,
    )
    codes = [f"account-{number}" for number in range(ACCOUNTS)]
    shards = [
        shard_of_code(book_id=book_id, code=code, shards=settings.SHARDS_IN_USE) for code in codes
    ]
    with transaction.atomic():
        Account.objects.bulk_create(
            Account(
                id=number * SHARDS + shard,
                shard=shard,
                book_id=book_id,
                code=code,
                name="Account",
                rate_card_id=rate_card_id,
                default_cost_centre="centre",
                opened_at=at,
                debt_lot_id=number * SHARDS + shard,
            )
            for number, (code, shard) in enumerate(zip(codes, shards, strict=True), 1)
        )
        Standing.objects.bulk_create(
            Standing(account_id=number * SHARDS + shard, shard=shard)
            for number, shard in enumerate(shards, 1)
        )
        Lot.objects.bulk_create(
            Lot(
                id=(lot * ACCOUNTS + number) * SHARDS + shard,
                shard=shard,
                account_id=number * SHARDS + shard,
                kind=Lot.Kind.PREPAID if lot else Lot.Kind.DEBT,
                source="bench",
                priority=lot,
                issued_at=at,
                effective_at=at - timedelta(days=1),
                granted_microtokens=LOT_MICROTOKENS_MAX,
                price_micros=0,
                currency="",
            )
            for lot in range(1 + LOTS)
            for number, shard in enumerate(shards, 1)
        )
    return access.issue_api_key(book_id=book_id, name="bench", at=at).secret


class _Client:
    """One who asks, and asks again."""

    def __init__(self, address: str, secret: str, accounts_count: int, numbers: "count[int]"):
        host, _, port = urlsplit(address).netloc.partition(":")
        self.socket = socket.create_connection((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.accounts_count = accounts_count
        self.numbers = numbers
        self.head = (
            f"POST /api/v1/holds HTTP/1.1\r\nHost: {host}:{port}\r\n"
            f"Authorization: Bearer {secret}\r\n"
            "Content-Type: application/json\r\nContent-Length: "
        ).encode()
        self.received = b""
        self.asked_at = 0.0

    def ask(self) -> None:
        number = next(self.numbers)
        body = json.dumps(
            {
                "run": f"run-{number}",
                "account": f"account-{number * 7 % self.accounts_count}",
                "workflow": "review",
                "microtokens": 1_000,
                "actor": "bot-7",
                "life_seconds": 60,
            }
        ).encode()
        self.asked_at = perf_counter()
        self.socket.sendall(self.head + str(len(body)).encode() + _ENDED + body)

    def answered(self) -> bool:
        """Read what has come; whether that is a whole answer."""
        self.received += self.socket.recv(65_536)
        head, ended, body = self.received.partition(_ENDED)
        if not ended:
            return False
        [length] = [
            int(line[15:])
            for line in head.lower().split(b"\r\n")
            if line[:15] == b"content-length:"
        ]
        if len(body) < length:
            return False
        assert head.startswith(b"HTTP/1.1 201"), self.received[:500]
        self.received = b""
        return True


_numbers = count()


def _ask(address: str, secret: str, accounts_count: int) -> _Taken:
    clients = [_Client(address, secret, accounts_count, _numbers) for _ in range(CLIENTS)]
    taken = _Taken()
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.socket, selectors.EVENT_READ, client)
            client.ask()
        begin = perf_counter() + WARM_SECONDS
        while (now := perf_counter()) < begin + SECONDS:
            for key, _ in selector.select(1):
                if key.data.answered():
                    if now >= begin:
                        taken.latencies.append(perf_counter() - key.data.asked_at)
                    key.data.ask()
        taken.seconds = perf_counter() - begin
    for client in clients:
        client.socket.close()
    return taken
