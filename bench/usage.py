"""Usage totals: how fast blocks are folded, and how fast a year is read on a dashboard.

The year of one account is folded, not inserted: blocks are made up that say what such a year's
would, for 200 attributions, 3 engines and ten hours of each working day: some 1.5 million rows by
the hour. What a debit's own blocks take to fold is measured on blocks of 20,000 runs of 1,000
accounts.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from statistics import median
from time import perf_counter
from typing import Final

import numpy as np
from django.db import connection, transaction

from bench import database
from bench.figures import Figure
from bench.scenes import SHARD
from ledger import chain, folding, sql, usage
from ledger.days import Granularity
from ledger.packing import Rows
from ledger.totals import AMOUNTS, QUARTER_US, TOTAL
from ledger.units import SHARDS

ATTRIBUTIONS: Final = 200
WORKFLOWS: Final = 10
ENGINES: Final = 3
WORKING_DAYS: Final = 250
HOURS_OF_DAY: Final = 10
ACCOUNTS: Final = 1_000
# A dashboard may take so long.
MILLISECONDS_MAX: Final = 50
BEGIN: Final = datetime(2025, 1, 1, tzinfo=UTC)
END: Final = BEGIN + timedelta(days=365)

_ACCOUNT_ID: Final = SHARDS + SHARD
_BUILD: Final = """
    INSERT INTO ledger_account (shard, id, book_id, code, name, rate_card_id, default_cost_centre,
        opened_at, debt_lot_id)
    SELECT %(shard)s, n * 256 + %(shard)s, 1, 'account-' || n, 'Account', 1, 'centre', %(at)s,
        n * 256 + %(shard)s
    FROM generate_series(1, %(accounts)s) AS n;
    INSERT INTO ledger_standing (shard, account_id) SELECT shard, id FROM ledger_account;
    INSERT INTO ledger_attribution (shard, account_id, key, workflow, project, job, cost_centre,
        department, actor)
    SELECT %(shard)s, %(account_id)s, lpad(to_hex(n), 32, '0')::uuid,
        'workflow-' || n %% %(workflows)s, 'project-' || n %% 20, 'job-' || n %% 4,
        'centre-' || n %% 25, 'department-' || n %% 5, 'actor-' || n
    FROM generate_series(1, %(attributions)s) AS n;
    INSERT INTO ledger_book (code, name, revision) VALUES ('bench', 'Bench', 0);
    INSERT INTO ledger_engine (book_id, code, name)
    SELECT max(id), 'engine-' || n, 'Engine' FROM ledger_book, generate_series(1, %(engines)s) AS n
    GROUP BY n;
"""


def measure(*, batches: int, repetitions: int) -> Iterator[Figure]:
    database.empty()
    _build()
    _write_blocks(_year(), at=BEGIN)
    seconds = _seconds(folding.fold_all)
    rows = _rows_count()
    yield Figure(
        name=f"fold a year of {rows:,} rows by the hour", value=rows / seconds, unit="rows/s"
    )
    for name, read in _dashboards().items():
        read()
        taken = median(_seconds(read) for _ in range(max(repetitions, 5)))
        yield Figure(
            name=f"read a year: {name}",
            value=1 / taken,
            unit="reads/s",
            limit=1_000 / MILLISECONDS_MAX,
            limit_name=f"{MILLISECONDS_MAX} ms each",
            bar=1.0,
        )
    count = _write_blocks(_of_debits(blocks=max(batches, 20)), at=BEGIN)
    seconds = _seconds(folding.fold_all)
    yield Figure(
        name=f"fold blocks of 20,000 runs of {ACCOUNTS:,} accounts",
        value=count / seconds,
        unit="blocks/s",
    )


def _dashboards() -> dict[str, Callable[[], object]]:
    return {
        "all, by day": lambda: _read(granularity="day"),
        "by workflow": lambda: _read(by=["workflow"]),
        "by workflow and month": lambda: _read(by=["workflow"], granularity="month"),
        "by cost centre, engine and month": lambda: _read(
            by=["cost_centre", "engine"], granularity="month"
        ),
        "one actor, by day": lambda: _read(only={"actor": ["actor-7"]}, granularity="day"),
        "unit costs": lambda: usage.unit_costs(account_id=_ACCOUNT_ID, from_at=BEGIN, until_at=END),
        "its last 31 days, by workflow and day": lambda: _read(
            from_at=END - timedelta(days=31), by=["workflow"], granularity="day"
        ),
    }


def _read(
    *,
    from_at: datetime = BEGIN,
    by: Sequence[usage.Dimension] = (),
    granularity: Granularity | None = None,
    only: Mapping[usage.Dimension, Sequence[str]] | None = None,
) -> object:
    return usage.read(
        account_ids=[_ACCOUNT_ID],
        from_at=from_at,
        until_at=END,
        by=by,
        granularity=granularity,
        only=only,
    )


def _build() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            _BUILD,
            {
                "shard": SHARD,
                "accounts": ACCOUNTS,
                "account_id": _ACCOUNT_ID,
                "attributions": ATTRIBUTIONS,
                "workflows": WORKFLOWS,
                "engines": ENGINES,
                "at": BEGIN,
            },
        )
        cursor.execute("ANALYZE ledger_account, ledger_attribution, ledger_engine")


def _engine_ids() -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM ledger_engine ORDER BY id")
        return [engine_id for (engine_id,) in cursor.fetchall()]


def _year() -> Iterator[Rows]:
    """The totals of a block for each working day: 600 rows for each of its hours."""
    numbers = np.arange(1, ATTRIBUTIONS + 1)
    keys = np.zeros((ATTRIBUTIONS, 2), ">u8")
    keys[:, 1] = numbers
    packed_keys = keys.view("V16").ravel()
    for working_day in range(WORKING_DAYS):
        day = working_day // 5 * 7 + working_day % 5
        hours = day * 24 + 8 + np.arange(HOURS_OF_DAY)
        rows = np.zeros(HOURS_OF_DAY * ATTRIBUTIONS * ENGINES, TOTAL)
        rows["account_id"] = _ACCOUNT_ID
        rows["attribution_key"] = np.tile(np.repeat(packed_keys, ENGINES), HOURS_OF_DAY)
        rows["quarter"] = _quarter(BEGIN) + np.repeat(hours, ATTRIBUTIONS * ENGINES) * 4
        rows["engine_id"] = np.tile(_engine_ids(), HOURS_OF_DAY * ATTRIBUTIONS)
        _fill(rows)
        yield rows


def _of_debits(*, blocks: int) -> Iterator[Rows]:
    """The totals of blocks whose runs occurred one after another, twenty of each account."""
    for number in range(blocks):
        rows = np.zeros(ACCOUNTS, TOTAL)
        rows["account_id"] = (np.arange(ACCOUNTS) + 1) * SHARDS + SHARD
        rows["quarter"] = _quarter(BEGIN + timedelta(days=400)) + number // 200
        rows["engine_id"] = _engine_ids()[0]
        _fill(rows)
        yield rows


def _fill(rows: Rows) -> None:
    for name in AMOUNTS:
        rows[name] = 7
    rows["runs_count"] = 20


def _quarter(instant: datetime) -> int:
    return int(instant.timestamp() * 1_000_000) // QUARTER_US


def _write_blocks(totals: Iterator[Rows], *, at: datetime) -> int:
    leaf = bytes(32)
    blocks = list(totals)
    for rows in blocks:
        with transaction.atomic():
            sql.lock_shard(SHARD)
            chain.append(
                SHARD,
                chain.head(SHARD),
                leaves=[leaf],
                runs_count=1,
                submission_ids=(1, 1),
                microtokens=int(rows["microtokens"].sum()),
                micros=int(rows["micros"].sum()),
                totals=rows.tobytes(),
                at=at,
            )
    return len(blocks)


def _rows_count() -> int:
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE ledger_usage")
        cursor.execute("SELECT count(*) FROM ledger_usage WHERE rung = 1")
        [count] = cursor.fetchone()
        return int(count)


def _seconds(work: Callable[[], object]) -> float:
    begin = perf_counter()
    work()
    return perf_counter() - begin
