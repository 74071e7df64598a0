"""Of runs: accepted once, debited once, whole."""

from typing import Final

INVARIANTS: Final[dict[str, str]] = {
    "a run's slices add up to its cost": """
        SELECT account_id, run_key
        FROM (SELECT * FROM ledger_run WHERE slices_count > 1) AS run
        FULL JOIN (
            SELECT shard, account_id, run_key, part, count(*) AS slices_count,
                   sum(microtokens) AS microtokens
            FROM ledger_entry
            WHERE kind = 'debit'
            GROUP BY shard, account_id, run_key, part
        ) AS entered USING (shard, account_id, run_key, part)
        WHERE entered.slices_count IS DISTINCT FROM run.slices_count
           OR entered.microtokens IS DISTINCT FROM run.microtokens
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
        UNION ALL
        SELECT intake.shard, intake.id
        FROM ledger_intake AS intake
        LEFT JOIN ledger_submission AS submission
            ON submission.shard = intake.shard AND submission.id = intake.id
        WHERE submission.runs_count IS DISTINCT FROM intake.runs_count
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
}
