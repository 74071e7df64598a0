"""Receipts exported per second, and checked per second by the verifier as it stands alone."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Final

from bench import database
from bench.figures import Figure
from bench.scenes import AT, SHARD, Scene
from ledger import accounts, debiting, heads, proofs
from ledger.models import Account

BATCH_RUNS: Final = 10_000
BAR: Final = 200_000
SCRIPT: Final = Path(proofs.__file__).with_name("verify_receipts.py")


def measure(*, batches: int, repetitions: int) -> Iterator[Figure]:
    database.empty()
    scene = Scene(accounts=1, batches=batches, batch_runs=BATCH_RUNS)
    scene.build()
    for _ in scene.intakes():
        debiting.drain_block(shard=SHARD, at=AT)
    heads.publish(at=AT)
    account = accounts.account(account_id=Account.objects.get().id)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "export"
        begin = perf_counter()
        exported = proofs.export(account=account, folder=place, at=AT)
        yield Figure(
            name=f"export_receipts, {exported.lines_count:,} receipts",
            value=exported.lines_count / (perf_counter() - begin),
            unit="receipts/s",
        )
        yield Figure(
            name=f"verify_receipts, {exported.lines_count:,} receipts",
            value=exported.lines_count / median(_seconds(place) for _ in range(repetitions)),
            unit="receipts/s",
            limit=BAR,
            limit_name="the bar",
            bar=1.0,
        )


def _seconds(place: Path) -> float:
    """From start to end of a process of its own."""
    begin = perf_counter()
    told = subprocess.run(
        [sys.executable, SCRIPT, place, "--json"], check=True, capture_output=True
    )
    assert json.loads(told.stdout)["sound"]
    return perf_counter() - begin
