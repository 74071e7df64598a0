"""Debits per second, beside a raw binary COPY of the same rows into an identical table.

Batch after batch: commit an intake (not timed), debit it (timed, to the end of its commit), read
the rows it wrote as COPY's bytes (not timed), copy them into a table with the same columns, keys
and checks (timed, to the end of its commit). So both grow alike and meet the same weather.
"""

from collections.abc import Iterator
from time import perf_counter
from typing import Final

from django.db import connection, transaction

from bench import database
from bench.figures import Figure, middle
from bench.scenes import AT, SHARD, Scene
from ledger import debiting

BATCH_RUNS: Final = 10_000
WARM_UP_BATCHES: Final = 2
# How many accounts, and the share of COPY's speed that must be reached with them.
BARS: Final = {1: 0.70, 1_000: 0.70, 100_000: 0.35}


def measure(*, batches: int, repetitions: int) -> Iterator[Figure]:
    for accounts, bar in BARS.items():
        timed = [
            _repetition(
                Scene(accounts=accounts, batches=batches + WARM_UP_BATCHES, batch_runs=BATCH_RUNS)
            )
            for _ in range(repetitions)
        ]
        debit_seconds, copy_seconds = middle(timed)
        runs = batches * BATCH_RUNS
        yield Figure(
            name=f"debit, {accounts:,} account{'s' if accounts > 1 else ''}",
            value=runs / debit_seconds,
            unit="runs/s",
            limit=runs / copy_seconds,
            limit_name="binary COPY",
            bar=bar,
        )


def _repetition(scene: Scene) -> tuple[float, float]:
    """Seconds in debits, and in copies."""
    database.empty()
    scene.build()
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS raw_run")
        cursor.execute("CREATE TABLE raw_run (LIKE ledger_run INCLUDING ALL)")
    debits: list[float] = []
    copies: list[float] = []
    for block, place in enumerate(scene.intakes(), 1):
        begin = perf_counter()
        drained = debiting.drain_block(shard=SHARD, at=AT)
        debits.append(perf_counter() - begin)
        assert drained.runs_count == BATCH_RUNS
        rows = _rows_of(block)
        begin = perf_counter()
        _copy(rows)
        copies.append(perf_counter() - begin)
        if place < WARM_UP_BATCHES:
            debits.clear()
            copies.clear()
    return sum(debits), sum(copies)


def _rows_of(block: int) -> bytes:
    statement = f"COPY (SELECT * FROM ledger_run WHERE block_number = {block}) TO STDOUT"
    with connection.cursor() as cursor, cursor.copy(f"{statement} (FORMAT binary)") as copy:
        return b"".join(bytes(part) for part in copy)


def _copy(rows: bytes) -> None:
    with (
        transaction.atomic(),
        connection.cursor() as cursor,
        cursor.copy("COPY raw_run FROM STDIN (FORMAT binary)") as copy,
    ):
        copy.write(rows)
