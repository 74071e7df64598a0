"""Movements checked per second by check_ledger: every rule, over a ledger filled by debits."""

from collections.abc import Iterator
from statistics import median
from time import perf_counter

from django.db import connection

from bench import database
from bench.figures import Figure
from bench.scenes import AT, SHARD, Scene
from ledger import debiting
from ledger.invariants import violations

ACCOUNTS = 1_000
BATCH_RUNS = 10_000
BAR = 200_000


def measure(*, batches: int, repetitions: int) -> Iterator[Figure]:
    database.empty()
    scene = Scene(accounts=ACCOUNTS, batches=batches, batch_runs=BATCH_RUNS)
    scene.build()
    for _ in scene.intakes():
        debiting.drain_block(shard=SHARD, at=AT)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
        cursor.execute("SELECT count(*) FROM ledger_movement")
        [movements] = cursor.fetchone()
    yield Figure(
        name=f"check_ledger, {batches * BATCH_RUNS:,} runs",
        value=movements / median(_seconds() for _ in range(repetitions)),
        unit="movements/s",
        limit=BAR,
        limit_name="the bar",
        bar=1.0,
    )


def _seconds() -> float:
    begin = perf_counter()
    broken = violations(two_at_once=True)
    seconds = perf_counter() - begin
    assert broken == {}, f"the bench's own ledger is not sound: {broken}"
    return seconds
