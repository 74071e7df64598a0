"""A backlog drained by worker processes: two of them against one, and what one takes in memory.

Every worker is a process of its own, with a shard of its own; the intakes are committed before,
and the clock runs from the moment all of them are told to begin until the last has ended.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from time import perf_counter
from typing import Final

from django.db import connection

from bench import database
from bench.figures import Figure, middle
from bench.scenes import SHARD, Scene

BATCH_RUNS: Final = 10_000
ACCOUNTS: Final = 1_000
SPEEDUP: Final = 1.4
BACKLOG_RUNS: Final = 1_000_000
MEMORY_BYTES_MAX: Final = 400_000_000

# Tells of itself when it is connected, waits for a line, drains its shard, tells how it went.
_WORKER: Final = """
import gc, json, resource, sys
import django
django.setup()
from django.db import connection
from bench.scenes import AT
from ledger import debiting
shard, name = int(sys.argv[1]), sys.argv[2]
connection.settings_dict["NAME"] = name
connection.ensure_connection()
gc.freeze()  # as a worker does when it has loaded its code
print("ready", flush=True)
sys.stdin.readline()
runs = debiting.drain_shard(shard=shard, at=AT)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
peak *= 1 if sys.platform == "darwin" else 1024  # elsewhere in kilobytes
print(json.dumps({"runs": runs, "peak_bytes": peak}), flush=True)
"""


def measure(*, batches: int, repetitions: int) -> Iterator[Figure]:
    one, two = middle(
        [
            (runs_a_second([SHARD], 2 * batches), runs_a_second([SHARD, SHARD + 1], 2 * batches))
            for _ in range(repetitions)
        ]
    )
    yield Figure(
        name="two workers on two shards beside one on one",
        value=two,
        unit="runs/s",
        limit=one,
        limit_name="one worker",
        bar=SPEEDUP,
    )
    yield Figure(
        name=f"memory of a worker that drains {BACKLOG_RUNS:,} runs",
        value=_peak_bytes(),
        unit="bytes",
        most=MEMORY_BYTES_MAX,
    )


def runs_a_second(shards: list[int], batches: int) -> float:
    _fill(shards, batches)
    seconds, told = _drain(shards)
    runs = sum(one["runs"] for one in told)
    assert runs == len(shards) * batches * BATCH_RUNS
    return runs / seconds


def _peak_bytes() -> float:
    _fill([SHARD], BACKLOG_RUNS // BATCH_RUNS)
    _, [told] = _drain([SHARD])
    assert told["runs"] == BACKLOG_RUNS
    return told["peak_bytes"]


def _fill(shards: list[int], batches: int) -> None:
    database.empty()
    for shard in shards:
        scene = Scene(shard=shard, accounts=ACCOUNTS, batches=batches - 1, batch_runs=BATCH_RUNS)
        scene.build()
        for _ in scene.intakes():
            pass
    database.checkpoint()


def _drain(shards: list[int]) -> tuple[float, list[dict[str, int]]]:
    name = connection.settings_dict["NAME"]
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER, str(shard), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for shard in shards
    ]
    for worker in workers:
        assert worker.stdout
        assert worker.stdout.readline() == "ready\n"
    begin = perf_counter()
    for worker in workers:
        assert worker.stdin
        worker.stdin.write("go\n")
        worker.stdin.flush()
    told = [json.loads(worker.stdout.readline()) for worker in workers if worker.stdout]
    seconds = perf_counter() - begin
    for worker in workers:
        worker.communicate()
    return seconds, told
