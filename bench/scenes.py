"""Accounts with lots that run out, and the runs that use them up.

The accounts of a scene live in one shard: a block is one shard's transaction, so this is what one
worker does at a time.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np
import psycopg
from django.db import connection

from bench.database import checkpoint
from ledger.instants import to_us
from ledger.intake import Attribution, attribution_key
from ledger.packing import (
    RUN,
    InferenceDetails,
    Integers,
    Rows,
    RunDetails,
    details_digest,
    encode_details,
    pack_details,
)
from ledger.units import SHARDS, run_key

SHARD: Final = 7
LOTS_PER_ACCOUNT: Final = 5
LOT_RUNS_MIN: Final = 50  # so that one run in fifty crosses lots, at most
COST_MAX: Final = 2_000
BEGIN: Final = datetime(2026, 6, 1, tzinfo=UTC)
AT: Final = datetime(2026, 7, 1, tzinfo=UTC)
ATTRIBUTION: Final[Attribution] = ("review", "project", "job", "centre", "department", "actor")

_BUILD: Final = {
    "ledger_account": """
        INSERT INTO ledger_account (shard, id, book_id, code, name, rate_card_id,
            default_cost_centre, currency, opened_at, debt_lot_id)
        SELECT %(shard)s, n * 256 + %(shard)s, 1, 'account-' || n, 'Account', 1, 'centre', 'EUR',
            %(at)s, n * 256 + %(shard)s
        FROM generate_series(1, %(accounts)s) AS n
    """,
    "ledger_standing": """
        INSERT INTO ledger_standing (shard, account_id)
        SELECT shard, id FROM ledger_account WHERE shard = %(shard)s
    """,
    "ledger_lot": """
        INSERT INTO ledger_lot (shard, id, account_id, kind, source, priority, issued_at,
            effective_at, expires_at, closes_at, granted_microtokens, price_micros, currency)
        SELECT shard, debt_lot_id, id, 'debt', 'debt', 0, %(at)s, '1970-01-01Z'::timestamptz, NULL,
            NULL, 4000000000000000000, 0, ''
        FROM ledger_account WHERE shard = %(shard)s
        UNION ALL
        SELECT shard, (%(accounts)s + (id >> 8) * %(lots)s + k) * 256 + shard, id, 'prepaid',
            'top_up', 0, %(at)s, %(at)s, %(at)s + k * interval '100 days',
            %(at)s + k * interval '100 days',
            CASE k WHEN 1 THEN 1 + (id >> 8) * 7919 %% %(size)s ELSE %(size)s END, 1000000, 'EUR'
        FROM ledger_account, generate_series(1, %(lots)s) AS k WHERE shard = %(shard)s
    """,
    "ledger_entry": """
        INSERT INTO ledger_entry (shard, account_id, lot_id, kind, out_before_microtokens,
            microtokens, operation_key, occurred_at)
        SELECT shard, account_id, id, 'grant', 0, granted_microtokens, 'grant-' || id, %(at)s
        FROM ledger_lot WHERE kind = 'prepaid' AND shard = %(shard)s
    """,
    "ledger_attribution": """
        INSERT INTO ledger_attribution (shard, account_id, key, workflow, project, job, cost_centre,
            department, actor)
        SELECT shard, id, %(key)s, %(workflow)s, %(project)s, %(job)s, %(cost_centre)s,
            %(department)s, %(actor)s
        FROM ledger_account WHERE shard = %(shard)s
    """,
}

_TAKE_IN: Final = """
    WITH submission AS (
        INSERT INTO ledger_submission (shard, batch_id, received_at, runs_count, details)
        VALUES (%(shard)s, %(batch_id)s, %(at)s, %(count)s, %(details)s)
        RETURNING shard, id, runs_count
    )
    INSERT INTO ledger_intake (shard, id, runs_count, runs)
    SELECT shard, id, runs_count, %(runs)s FROM submission
"""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Intakes of `batch_runs` runs each, for that many accounts.

    The first ones visit every account, so that each has a lot in use; `batches` more follow, of
    accounts at random.
    """

    accounts: int
    batches: int
    batch_runs: int
    shard: int = SHARD

    def build(self) -> None:
        """Lots hold, in all, a little more than their account's runs are likely to cost.

        Of the first lot of each account some is left, a different part for each: so lots run out
        all the time, as they do where customers have come one after the other.
        """
        batches = self.visiting_batches + self.batches
        runs_each = batches * self.batch_runs / self.accounts
        likely = (runs_each * 1.1 + 9 * runs_each**0.5 + 12) * COST_MAX / 2 * 1.05
        names = ("workflow", "project", "job", "cost_centre", "department", "actor")
        parameters: dict[str, int | str | datetime] = {
            "shard": self.shard,
            "accounts": self.accounts,
            "lots": LOTS_PER_ACCOUNT,
            "size": max(int(likely / (LOTS_PER_ACCOUNT - 1)) + 1, LOT_RUNS_MIN * COST_MAX // 2),
            "at": BEGIN,
            "key": attribution_key(ATTRIBUTION).hex(),
            **dict(zip(names, ATTRIBUTION, strict=True)),
        }
        with connection.cursor() as cursor:
            for table, statement in _BUILD.items():
                cursor.execute(statement, parameters)
                # What refers to it would be checked by plans made for an empty table.
                cursor.execute(f"ANALYZE {table}")
            cursor.execute("VACUUM ANALYZE ledger_account, ledger_standing, ledger_lot")
        checkpoint()

    @property
    def visiting_batches(self) -> int:
        return -(-self.accounts // self.batch_runs)

    def intakes(self) -> Iterator[int]:
        """Commit one intake after another; yields its place (those below 0 visit)."""
        random = np.random.default_rng(1)
        for number in range(self.visiting_batches + self.batches):
            self._take_in(number, random)
            yield number - self.visiting_batches

    def _accounts(self, number: int, random: np.random.Generator) -> Integers:
        """Of one batch, by number."""
        if number >= self.visiting_batches:
            return random.integers(0, self.accounts, self.batch_runs)
        return (number * self.batch_runs + np.arange(self.batch_runs)) % self.accounts

    def _take_in(self, number: int, random: np.random.Generator) -> None:
        count = self.batch_runs
        times = to_us(BEGIN) + (number * count + np.arange(count)) * 1_000
        ids = [_time_ordered_id(int(time), random.bytes(9)) for time in times]
        runs = np.empty(count, RUN)
        runs["account_id"] = (self._accounts(number, random) + 1) * SHARDS + self.shard
        runs["run_key"] = np.frombuffer(b"".join(run_key(one).bytes for one in ids), "V16")
        runs["occurred_at_us"] = times
        runs["microtokens"] = random.integers(1, COST_MAX + 1, count)
        runs["attribution_key"] = np.frombuffer(attribution_key(ATTRIBUTION), "V16")[0]
        runs["part"] = runs["flags"] = 0
        runs["engine_id"] = 1
        runs["body_digest"] = random.integers(1, 2**62, count)
        details = _details(ids, runs)
        runs["details_digest"] = [details_digest(one) for one in details]
        with psycopg.Cursor(connection.connection) as cursor:
            cursor.execute(
                _TAKE_IN,
                {
                    "shard": self.shard,
                    "batch_id": uuid.UUID(int=number),
                    "at": AT,
                    "count": count,
                    "details": pack_details(details),
                    "runs": runs.tobytes(),
                },
            )


def _details(ids: list[str], runs: Rows) -> list[bytes]:
    columns = (runs[name].tolist() for name in ("account_id", "occurred_at_us", "microtokens"))
    return encode_details(
        RunDetails(
            run_id,
            account_id,
            [InferenceDetails("engine", at_us, {"input_tokens": 9, "output_tokens": 9}, 1, cost)],
        )
        for run_id, account_id, at_us, cost in zip(ids, *columns, strict=True)
    )


def _time_ordered_id(time_us: int, noise: bytes) -> str:
    """A UUID of version 7 (RFC 9562), as clients are told to send."""
    digits = f"{time_us // 1000:012x}7{noise.hex()[:3]}8{noise.hex()[3:]}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:32]}"
