"""What a run takes on the disk and in the write-ahead log, table by table, after many debits."""

from collections.abc import Iterator
from typing import Final

from django.db import connection

from bench import database
from bench.figures import Figure
from bench.scenes import AT, SHARD, Scene
from ledger import debiting

ACCOUNTS: Final = 1_000
BATCH_RUNS: Final = 10_000
TABLES: Final = ("ledger_run", "ledger_submission", "ledger_block", "ledger_entry")


def measure(*, batches: int, repetitions: int) -> Iterator[Figure]:
    database.empty()
    scene = Scene(accounts=ACCOUNTS, batches=batches, batch_runs=BATCH_RUNS)
    scene.build()
    written = runs = 0
    for _ in scene.intakes():
        before = _position()
        runs += debiting.drain_block(shard=SHARD, at=AT).runs_count
        written += _position() - before
    yield Figure(name="write-ahead log of a debit", value=written / runs, unit="bytes/run")
    with connection.cursor() as cursor:
        for table in TABLES:
            cursor.execute("SELECT pg_total_relation_size(%s)", [table])
            [size] = cursor.fetchone()
            yield Figure(name=f"{table}, with its indexes", value=size / runs, unit="bytes/run")


def _position() -> int:
    """How much has been written to the log so far."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint")
        [position] = cursor.fetchone()
    return int(position)
