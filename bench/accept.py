"""Runs accepted per second, in process: checked, priced and committed, 1,000 a batch.

One inference of four quantities a run; 1,000 accounts, so a batch goes to nearly every shard.
"""

from collections.abc import Iterator
from datetime import timedelta
from statistics import median
from time import perf_counter
from typing import Final

from django.db import transaction

from bench import database
from bench.figures import Figure
from bench.scenes import AT, BEGIN
from ledger import accounts, catalog, intake
from ledger.catalog import NewRate
from ledger.intake import NewInference, NewRun
from ledger.units import ALWAYS

BATCH_RUNS: Final = 1_000
ACCOUNTS: Final = 1_000
METERS: Final = ("executions", "input_tokens", "output_tokens", "seconds")


def measure(*, batches: int, repetitions: int) -> Iterator[Figure]:
    seconds = median(_repetition(batches) for _ in range(repetitions))
    yield Figure(
        name=f"accept, {BATCH_RUNS:,} runs a batch",
        value=batches * BATCH_RUNS / seconds,
        unit="runs/s",
    )


def _repetition(batches: int) -> float:
    database.empty()
    book_id = make_book()
    seconds = 0.0
    for number in range(batches):
        runs = _runs(number)
        begin = perf_counter()
        with transaction.atomic():
            intake.accept(book_id=book_id, runs=runs, at=AT)
        seconds += perf_counter() - begin
    return seconds


def make_book() -> int:
    book_id = catalog.create_book(code="bench", name="Bench")
    unit_id = catalog.create_unit(book_id=book_id, code="work", name="Work", sentence="Work.")
    catalog.create_engine(book_id=book_id, code="engine", name="Engine")
    for meter in METERS:
        catalog.create_meter(book_id=book_id, code=meter, name=meter)
    rate_card_id = catalog.publish_rate_card(
        book_id=book_id,
        unit_id=unit_id,
        code="standard",
        name="Standard",
        effective_at=ALWAYS,
        rates=[NewRate(meter=meter, per_quantity=1_000) for meter in METERS],
        at=BEGIN,
    )
    for number in range(ACCOUNTS):
        accounts.open_account(
            book_id=book_id,
            code=f"account-{number}",
            name="Account",
            rate_card_id=rate_card_id,
            default_cost_centre="centre",
            at=BEGIN,
        )
    return book_id


def _runs(batch: int) -> list[NewRun]:
    return [
        NewRun(
            id=f"run-{batch}-{position}",
            account=f"account-{position * 7 % ACCOUNTS}",
            workflow="review",
            occurred_at=BEGIN + timedelta(seconds=position),
            inferences=[
                NewInference(
                    engine="engine",
                    quantities={meter: position + place for place, meter in enumerate(METERS)},
                )
            ],
        )
        for position in range(BATCH_RUNS)
    ]
