"""Of what was accepted, against the details it came with, which SQL does not read."""

from collections.abc import Callable
from typing import Final

from django.db import connection, transaction

from ledger import sql, units
from ledger.debiting import KnownRun
from ledger.invariants.rows import BrokenRows, Row
from ledger.models import Conflict, Submission
from ledger.packing import RunDetails, unpack_details

NOTHING_LOST: Final = "an accepted run is debited, in conflict, or still waits"

_SUBMISSIONS_NOT_WHOLE: Final = """
    SELECT submission.shard, submission.id
    FROM ledger_submission AS submission
    LEFT JOIN ledger_intake AS intake
        ON intake.shard = submission.shard AND intake.id = submission.id
    LEFT JOIN (
        SELECT shard, submission_id, count(*) AS runs
        FROM (
            SELECT shard, submission_id FROM ledger_run WHERE flags & 8 = 0  -- IN_PARTS
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
    in_conflict = set(
        Conflict.objects.filter(shard=shard, submission_id=submission_id).values_list(
            "submission_position", flat=True
        )
    )
    names = {
        (one.account_id, units.run_key(one.run_id), _part(one)): one.run_id
        for position, one in enumerate(details)
        if position not in in_conflict
    }
    debited = {
        (known.account_id, known.run_key, known.part)
        for known in sql.query(
            KnownRun,
            "known_runs",
            shard=shard,
            account_ids=[account_id for account_id, _, _ in names],
            run_keys=[key for _, key, _ in names],
            parts=[part for _, _, part in names],
        )
    }
    return [
        (account_id, run_key, run_id)
        for (account_id, run_key, part), run_id in names.items()
        if (account_id, run_key, part) not in debited
    ]


def _part(details: RunDetails) -> int:
    return 0 if details.unusual is None else units.part_key(details.unusual.part)


CHECKS: Final[dict[str, Callable[[], list[Row]]]] = {
    NOTHING_LOST: _lost_runs,
}
