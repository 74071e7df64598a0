"""What must always hold, each a query for the rows that break it.

A single row's rules are constraints of the database. What rows say of each other stands here,
and is asserted after every test that touched the ledger, by `manage.py check_ledger`, and
whenever an operator wants to know.
"""

import uuid
from collections.abc import Callable
from itertools import chain, groupby
from operator import itemgetter
from typing import Final

import msgspec
from django.db import connection, transaction

from ledger import sql, units
from ledger.debiting import KnownRun
from ledger.models import Submission
from ledger.packing import unpack_details

BROKEN_ROWS_MAX: Final = 10
ROWS_PER_FETCH: Final = 5_000

INVARIANTS: Final[dict[str, str]] = {
    "what is out of a lot is the sum of its movements": """
        SELECT lot.id
        FROM ledger_lot_now AS lot
        LEFT JOIN (
            SELECT shard, lot_id, sum(sign * microtokens) AS out_microtokens
            FROM ledger_movement GROUP BY shard, lot_id
        ) AS moved ON moved.shard = lot.shard AND moved.lot_id = lot.id
        WHERE lot.out_microtokens <> coalesce(moved.out_microtokens, 0)
           OR lot.out_microtokens NOT BETWEEN 0 AND lot.granted_microtokens
    """,
    "movements of a lot follow one another without gap or overlap": """
        SELECT lot_id, microtokens
        FROM (
            SELECT shard, lot_id, at AS microtokens,
                   sum(sum(step)) OVER (PARTITION BY shard, lot_id ORDER BY at) AS covered
            FROM ledger_movement
            CROSS JOIN LATERAL (VALUES
                (out_before_microtokens, 1), (out_before_microtokens + sign * microtokens, -1)
            ) AS edge (at, step)
            GROUP BY shard, lot_id, at
        ) AS position
        JOIN ledger_lot_now AS lot ON lot.shard = position.shard AND lot.id = position.lot_id
        WHERE covered <> CASE WHEN position.microtokens < lot.out_microtokens THEN 1 ELSE 0 END
    """,
    "an entry belongs to the account of its lot": """
        SELECT movement.lot_id, movement.account_id
        FROM ledger_movement AS movement
        LEFT JOIN ledger_lot AS lot ON lot.shard = movement.shard AND lot.id = movement.lot_id
        WHERE lot.account_id IS DISTINCT FROM movement.account_id
    """,
    "a run's slices add up to its cost": """
        SELECT run.account_id, run.run_key
        FROM ledger_run AS run
        LEFT JOIN ledger_entry AS entry
            ON entry.shard = run.shard AND entry.account_id = run.account_id
           AND entry.run_key = run.run_key AND entry.part = run.part AND entry.kind = 'debit'
        WHERE run.slices_count > 1 OR entry.id IS NOT NULL
        GROUP BY run.shard, run.account_id, run.run_key, run.part
        HAVING count(entry.id) <> run.slices_count OR sum(entry.microtokens) <> run.microtokens
            OR run.slices_count < 2
    """,
    "a run that crossed lots says where its first slice is": """
        SELECT run.account_id, run.run_key
        FROM ledger_run AS run
        JOIN LATERAL (
            SELECT lot_id, out_before_microtokens
            FROM ledger_entry AS entry
            WHERE entry.shard = run.shard AND entry.account_id = run.account_id
              AND entry.run_key = run.run_key AND entry.part = run.part
              AND entry.kind = 'debit'
            ORDER BY id LIMIT 1
        ) AS first ON true
        WHERE run.slices_count > 1
          AND (run.lot_id, run.out_before_microtokens)
              <> (first.lot_id, first.out_before_microtokens)
    """,
    "a debit entry belongs to a run": """
        SELECT entry.id
        FROM ledger_entry AS entry
        LEFT JOIN ledger_run AS run
            ON run.shard = entry.shard AND run.account_id = entry.account_id
           AND run.run_key = entry.run_key AND run.part = entry.part
        WHERE entry.run_key IS NOT NULL AND run.run_key IS NULL
    """,
    "a lot serves only runs of its own time": """
        SELECT movement.run_key, movement.lot_id
        FROM ledger_movement AS movement
        JOIN ledger_lot AS lot ON lot.shard = movement.shard AND lot.id = movement.lot_id
        WHERE movement.kind = 'debit'
          AND (movement.occurred_at < lot.effective_at OR movement.occurred_at >= lot.expires_at)
    """,
    "receipts of an account are numbered without gaps": """
        SELECT account.id
        FROM ledger_account AS account
        LEFT JOIN (
            SELECT shard, account_id, count(*) AS runs, count(DISTINCT sequence) AS numbers,
                   min(sequence) AS first, max(sequence) AS last
            FROM ledger_run WHERE part = 0 GROUP BY shard, account_id
        ) AS issued ON issued.shard = account.shard AND issued.account_id = account.id
        WHERE coalesce(issued.runs, 0) <> account.runs_count
           OR coalesce(issued.numbers, 0) <> account.runs_count
           OR issued.first <> 1 OR issued.last <> account.runs_count
    """,
    "a run has an account": """
        SELECT run.account_id, run.run_key
        FROM ledger_run AS run
        LEFT JOIN ledger_account AS account
            ON account.shard = run.shard AND account.id = run.account_id
        WHERE account.id IS NULL
    """,
    "a run says who it is for": """
        SELECT run.account_id, run.run_key
        FROM ledger_run AS run
        LEFT JOIN ledger_attribution AS attribution
            ON attribution.shard = run.shard AND attribution.account_id = run.account_id
           AND attribution.key = run.attribution_key
        WHERE attribution.key IS NULL
    """,
    "a block counts its runs, and blocks of a shard are numbered without gaps": """
        SELECT block.shard, block.number
        FROM (
            SELECT *, row_number() OVER (PARTITION BY shard ORDER BY number) AS expected
            FROM ledger_block
        ) AS block
        LEFT JOIN (
            SELECT shard, block_number, count(*) AS runs, sum(microtokens) AS microtokens,
                   sum(micros) AS micros
            FROM ledger_run GROUP BY shard, block_number
        ) AS written ON written.shard = block.shard AND written.block_number = block.number
        WHERE block.number <> block.expected OR block.runs_count IS DISTINCT FROM written.runs
           OR block.microtokens IS DISTINCT FROM written.microtokens
           OR block.micros IS DISTINCT FROM written.micros
        UNION ALL
        SELECT run.shard, run.block_number
        FROM ledger_run AS run
        LEFT JOIN ledger_block AS block
            ON block.shard = run.shard AND block.number = run.block_number
        WHERE block.number IS NULL
    """,
    "a run in conflict stands under its id with another body": """
        SELECT conflict.shard, conflict.submission_id, conflict.submission_position
        FROM ledger_conflict AS conflict
        LEFT JOIN ledger_run AS run
            ON run.shard = conflict.shard AND run.account_id = conflict.account_id
           AND run.run_key = conflict.run_key
        WHERE run.run_key IS NULL
           OR (run.submission_id, run.submission_position)
              = (conflict.submission_id, conflict.submission_position)
    """,
    "a submission waits whole, or is debited whole": """
        SELECT run.shard, run.submission_id
        FROM ledger_run AS run
        JOIN ledger_intake AS intake
            ON intake.shard = run.shard AND intake.id = run.submission_id
    """,
    "a lot was put in by one grant, whole": """
        SELECT lot.id
        FROM ledger_lot AS lot
        LEFT JOIN ledger_entry AS entry
            ON entry.shard = lot.shard AND entry.lot_id = lot.id AND entry.kind = 'grant'
        WHERE lot.kind = 'prepaid'
        GROUP BY lot.shard, lot.id
        HAVING count(entry.id) <> 1 OR min(entry.microtokens) <> lot.granted_microtokens
    """,
    "rolled tokens arrive whole, and keep what was paid for them": """
        SELECT next_lot.id
        FROM ledger_lot AS next_lot
        JOIN ledger_lot AS lot
            ON lot.shard = next_lot.shard AND lot.id = next_lot.rolled_from_lot_id
        LEFT JOIN ledger_entry AS entry
            ON entry.shard = lot.shard AND entry.lot_id = lot.id AND entry.kind = 'roll_over'
        WHERE entry.microtokens IS DISTINCT FROM next_lot.granted_microtokens
           OR entry.microtokens > lot.rollover_microtokens_max
           OR next_lot.account_id <> lot.account_id
           OR next_lot.currency <> lot.currency
           OR next_lot.price_micros <> (
                floor(lot.price_micros::numeric * (entry.out_before_microtokens + entry.microtokens)
                      / lot.granted_microtokens)
                - floor(lot.price_micros::numeric * entry.out_before_microtokens
                        / lot.granted_microtokens))
    """,
    "what rolled over arrived in a lot": """
        SELECT entry.id
        FROM ledger_entry AS entry
        LEFT JOIN ledger_lot AS next_lot
            ON next_lot.shard = entry.shard AND next_lot.account_id = entry.account_id
           AND next_lot.rolled_from_lot_id = entry.lot_id
        WHERE entry.kind = 'roll_over' AND next_lot.id IS NULL
    """,
    "a repayment takes from a lot what it gives to the debt": """
        SELECT shard, account_id, operation_key
        FROM ledger_entry
        WHERE kind IN ('repay', 'repaid')
        GROUP BY shard, account_id, operation_key
        HAVING sum(CASE kind WHEN 'repay' THEN microtokens ELSE -microtokens END) <> 0
    """,
    "tokens leave a lot no sooner than it closes, but by use": """
        SELECT entry.id
        FROM ledger_entry AS entry
        JOIN ledger_lot AS lot ON lot.shard = entry.shard AND lot.id = entry.lot_id
        WHERE entry.kind IN ('expire', 'roll_over')
          AND (lot.closes_at IS NULL OR entry.occurred_at < lot.closes_at)
    """,
    "an account's lot in use is one of its open lots": """
        SELECT account.id
        FROM ledger_account AS account
        LEFT JOIN ledger_lot AS lot
            ON lot.shard = account.shard AND lot.id = account.in_use_lot_id
        WHERE account.in_use_lot_id IS NOT NULL
          AND (lot.account_id IS DISTINCT FROM account.id OR NOT lot.open
               OR lot.granted_microtokens <> account.in_use_granted_microtokens
               OR account.in_use_out_microtokens NOT BETWEEN 0 AND lot.granted_microtokens
               OR account.in_use_from_at < lot.effective_at
               OR account.in_use_until_at > lot.expires_at)
    """,
    "a lot is open while something is left": """
        SELECT id FROM ledger_lot_now
        WHERE NOT open AND out_microtokens < granted_microtokens
    """,
    "a parked run that was priced is debited, or another holds its id": """
        SELECT parked.batch_id, parked.position
        FROM ledger_parkedrun AS parked
        LEFT JOIN ledger_run AS run
            ON run.shard = parked.shard AND run.account_id = parked.account_id
           AND run.run_key = parked.run_key
        WHERE parked.priced_at IS NOT NULL AND run.run_key IS NULL
          AND NOT EXISTS (SELECT FROM ledger_intake AS waiting WHERE waiting.shard = parked.shard)
    """,
    "an account has one debt lot, and names it": """
        SELECT account.id
        FROM ledger_account AS account
        LEFT JOIN ledger_lot AS lot
            ON lot.shard = account.shard AND lot.account_id = account.id AND lot.kind = 'debt'
        GROUP BY account.shard, account.id
        HAVING count(lot.id) <> 1 OR min(lot.id) <> account.debt_lot_id
    """,
}

# What a submission's details say, SQL does not read.
DETAILS: Final = "a run costs the sum of its inferences, and its details name it"
NOTHING_LOST: Final = "an accepted run is debited, in conflict, or still waits"
NAMES: Final = (*INVARIANTS, DETAILS, NOTHING_LOST)

Progress = Callable[[str], None]


def violations(*, progress: Progress = lambda name: None) -> dict[str, list[tuple[object, ...]]]:
    """Every invariant that does not hold, with at most BROKEN_ROWS_MAX rows that break it."""
    broken: dict[str, list[tuple[object, ...]]] = {}
    for name, statement in INVARIANTS.items():
        progress(name)
        with connection.cursor() as cursor:
            cursor.execute(f"{statement} LIMIT {BROKEN_ROWS_MAX}")
            if rows := cursor.fetchall():
                broken[name] = rows
    for name, check in ((DETAILS, _runs_against_details), (NOTHING_LOST, _lost_runs)):
        progress(name)
        if rows := check():
            broken[name] = rows
    return broken


_RUNS_WITH_DETAILS: Final = """
    SELECT run.shard, run.submission_id, run.submission_position, run.account_id, run.run_key,
           run.microtokens
    FROM ledger_run AS run
    ORDER BY run.shard, run.submission_id
"""


def _runs_against_details() -> list[tuple[object, ...]]:
    """Read all runs, submission after submission, beside the details they came with."""
    broken: list[tuple[object, ...]] = []
    with transaction.atomic(), connection.chunked_cursor() as cursor:
        cursor.execute(_RUNS_WITH_DETAILS)
        rows = chain.from_iterable(iter(lambda: cursor.fetchmany(ROWS_PER_FETCH), []))
        for (shard, submission_id), runs in groupby(rows, key=itemgetter(0, 1)):
            broken += _runs_against_submission(shard, submission_id, list(runs))
            if len(broken) >= BROKEN_ROWS_MAX:
                break
    return broken[:BROKEN_ROWS_MAX]


def _runs_against_submission(
    shard: int, submission_id: int, runs: list[tuple[int, int, int, int, uuid.UUID, int]]
) -> list[tuple[object, ...]]:
    submission = Submission.objects.filter(shard=shard, id=submission_id).first()
    if submission is None:
        return [(shard, submission_id, "has no details")]
    try:
        details = unpack_details(
            bytes(submission.details), submission.runs_count, [run[2] for run in runs]
        )
    except (msgspec.DecodeError, ValueError, IndexError) as error:
        return [(shard, submission_id, str(error))]
    return [
        (account_id, run_key, found.run_id)
        for (_, _, _, account_id, run_key, microtokens), found in zip(runs, details, strict=True)
        if (found.account_id, units.run_key(found.run_id)) != (account_id, run_key)
        or found.charged_microtokens != microtokens
    ]


_SUBMISSIONS_NOT_WHOLE: Final = """
    SELECT submission.shard, submission.id
    FROM ledger_submission AS submission
    LEFT JOIN ledger_intake AS intake
        ON intake.shard = submission.shard AND intake.id = submission.id
    LEFT JOIN (
        SELECT shard, submission_id, count(*) AS runs
        FROM (
            SELECT shard, submission_id FROM ledger_run
            UNION ALL
            SELECT shard, submission_id FROM ledger_conflict
        ) AS answered
        GROUP BY shard, submission_id
    ) AS known ON known.shard = submission.shard AND known.submission_id = submission.id
    WHERE intake.id IS NULL AND coalesce(known.runs, 0) <> submission.runs_count
"""


def _lost_runs() -> list[tuple[object, ...]]:
    """Of submissions not debited whole, the runs that stand nowhere else under their id."""
    lost: list[tuple[object, ...]] = []
    with transaction.atomic(), connection.chunked_cursor() as cursor:
        cursor.execute(_SUBMISSIONS_NOT_WHOLE)
        for shard, submission_id in cursor:
            lost += _lost_of_submission(shard, submission_id)
            if len(lost) >= BROKEN_ROWS_MAX:
                break
    return lost[:BROKEN_ROWS_MAX]


def _lost_of_submission(shard: int, submission_id: int) -> list[tuple[object, ...]]:
    submission = Submission.objects.get(shard=shard, id=submission_id)
    details = unpack_details(
        bytes(submission.details), submission.runs_count, range(submission.runs_count)
    )
    names = {(one.account_id, units.run_key(one.run_id)): one.run_id for one in details}
    debited = {
        (known.account_id, known.run_key)
        for known in sql.query(
            KnownRun,
            "known_runs",
            shard=shard,
            account_ids=[account_id for account_id, _ in names],
            run_keys=[key for _, key in names],
            parts=[0] * len(names),
        )
    }
    return [
        (account_id, run_key, run_id)
        for (account_id, run_key), run_id in names.items()
        if (account_id, run_key) not in debited
    ]
