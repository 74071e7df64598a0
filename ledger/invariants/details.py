"""Of what was accepted, against the details it came with, which SQL does not read."""

from collections.abc import Callable
from typing import Final

from django.db import connection, transaction

from ledger import sql, units
from ledger.debiting import KnownRun
from ledger.invariants.rows import BrokenRows, Row
from ledger.models import Submission
from ledger.packing import unpack_details

NOTHING_LOST: Final = "an accepted run is debited, in conflict, or still waits"

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
            if len(lost) >= BrokenRows.ROWS_MAX:
                break
    return lost[: BrokenRows.ROWS_MAX]


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
    NOTHING_LOST: _lost_runs,
}
