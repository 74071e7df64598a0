"""Debits into a ledger that holds ten million runs, beside the same debits into an empty one."""

from collections.abc import Iterator
from statistics import median
from time import perf_counter
from typing import Final

from bench import database
from bench.figures import Figure
from bench.scenes import AT, SHARD, Scene
from ledger import debiting

ACCOUNTS: Final = 1_000
BATCH_RUNS: Final = 10_000
GROWN_RUNS: Final = 10_000_000
# Of each age so many blocks: whatever the machine does for a second is in few of them.
COMPARED_BLOCKS: Final = 100
COLD_BLOCKS: Final = 5
BAR: Final = 0.8


def measure(*, batches: int, repetitions: int) -> Iterator[Figure]:
    database.empty()
    grown = GROWN_RUNS // BATCH_RUNS
    scene = Scene(accounts=ACCOUNTS, batches=grown + COMPARED_BLOCKS, batch_runs=BATCH_RUNS)
    scene.build()
    seconds: list[float] = []
    for _ in scene.intakes():
        begin = perf_counter()
        drained = debiting.drain_block(shard=SHARD, at=AT)
        seconds.append(perf_counter() - begin)
        assert drained.runs_count == BATCH_RUNS
    # The first blocks meet cold caches.
    young = seconds[COLD_BLOCKS : COLD_BLOCKS + COMPARED_BLOCKS]
    old = seconds[-COMPARED_BLOCKS:]
    yield Figure(
        name=f"debit with {GROWN_RUNS:,} runs there",
        value=BATCH_RUNS / median(old),
        unit="runs/s",
        limit=BATCH_RUNS / median(young),
        limit_name="an empty ledger",
        bar=BAR,
    )
