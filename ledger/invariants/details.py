"""Runs against the details they came with, which SQL does not read."""

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
DETAILS: Final = "a run costs the sum of its inferences, and its details name it"
NOTHING_LOST: Final = "an accepted run is debited, in conflict, or still waits"

Row = tuple[object, ...]


_RUNS_WITH_DETAILS: Final = """
    SELECT run.shard, run.submission_id, run.submission_position, run.account_id, run.run_key,
           run.microtokens
    FROM ledger_run AS run
    ORDER BY run.shard, run.submission_id
"""


def _runs_against_details() -> list[Row]:
    """Read all runs, submission after submission, beside the details they came with."""
    broken: list[Row] = []
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
) -> list[Row]:
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


def _lost_runs() -> list[Row]:
    """Of submissions not debited whole, the runs that stand nowhere else under their id."""
    lost: list[Row] = []
    with transaction.atomic(), connection.chunked_cursor() as cursor:
        cursor.execute(_SUBMISSIONS_NOT_WHOLE)
        for shard, submission_id in cursor:
            lost += _lost_of_submission(shard, submission_id)
            if len(lost) >= BROKEN_ROWS_MAX:
                break
    return lost[:BROKEN_ROWS_MAX]


def _lost_of_submission(shard: int, submission_id: int) -> list[Row]:
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


CHECKS: Final[dict[str, Callable[[], list[Row]]]] = {
    DETAILS: _runs_against_details,
    NOTHING_LOST: _lost_runs,
}
