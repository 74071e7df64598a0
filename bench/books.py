"""Closing the books of a day: many customers, each with fifty runs on that very day.

The scene is that of bench.closing. The books of the day are closed a moment after its end, as beat
does: by the lots as they stand. That no run is read for it is counted by PostgreSQL.
"""

from collections.abc import Iterator
from datetime import timedelta
from time import perf_counter
from typing import Final

from django.db import connection

from bench import closing, database
from bench.figures import Figure
from billing.books import days
from billing.models import JournalDay, JournalLine, Vendor

SECONDS_BAR: Final = 30
DAY: Final = timedelta(days=1)


def measure(*, batches: int, repetitions: int) -> Iterator[Figure]:
    database.empty()
    customers = batches * closing.SUBSCRIPTIONS_PER_BATCH
    closing.build(customers)
    database.checkpoint()
    vendor, day = Vendor.objects.get(), closing.USED.date()
    # As if everything before had been booked.
    JournalDay.objects.create(vendor=vendor, day=day - DAY, closed_at=closing.USED)
    before, begin = _runs_read(), perf_counter()
    days.close(vendor_id=vendor.pk, until=day, at=closing.USED + DAY)
    seconds = perf_counter() - begin
    runs = customers * closing.LINES
    lines = JournalLine.objects.count()
    yield Figure(
        name=f"books of a day of {runs:,} runs of {customers:,} customers ({lines:,} lines)",
        value=seconds,
        unit="seconds",
        most=SECONDS_BAR,
    )
    yield Figure(name="the same, runs read for it", value=_runs_read() - before, unit="", most=0)


def _runs_read() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute(
            "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables"
            " WHERE relname = 'ledger_run'"
        )
        [read] = cursor.fetchone()
        return int(read)
