-- An account's latest receipts, newest first.
--
-- locks       none
-- parameters  shard int, account_id bigint, runs_max int
-- row         the columns of ledger.queries.RunRow
SELECT run.run_key, run.sequence, run.occurred_at, run.microtokens, run.submission_id,
       run.submission_position, attribution.workflow, attribution.project, attribution.job,
       attribution.cost_centre, attribution.department, attribution.actor
FROM ledger_run AS run
JOIN ledger_attribution AS attribution
    ON attribution.shard = run.shard AND attribution.account_id = run.account_id
   AND attribution.key = run.attribution_key
WHERE run.shard = %(shard)s AND run.account_id = %(account_id)s AND run.part = 0
ORDER BY run.sequence DESC
LIMIT %(runs_max)s
