-- An account's latest receipts, newest first, with what each run costs by now: with its parts and
-- corrections.
--
-- locks       none
-- parameters  shard int, account_id bigint, runs_max int
-- row         the columns of ledger.queries.RunRow
SELECT run.run_key, run.sequence, run.occurred_at,
       (run.microtokens + coalesce(part.microtokens, 0) + coalesce(correction.microtokens, 0))::bigint
           AS microtokens,
       run.submission_id, run.submission_position, attribution.workflow, attribution.project,
       attribution.job, attribution.cost_centre, attribution.department, attribution.actor
FROM (
    SELECT * FROM ledger_run
    WHERE shard = %(shard)s AND account_id = %(account_id)s AND part = 0
    ORDER BY sequence DESC
    LIMIT %(runs_max)s
) AS run
JOIN ledger_attribution AS attribution
    ON attribution.shard = run.shard AND attribution.account_id = run.account_id
   AND attribution.key = run.attribution_key
LEFT JOIN LATERAL (
    SELECT sum(microtokens) AS microtokens FROM ledger_run AS part
    WHERE part.shard = run.shard AND part.account_id = run.account_id
      AND part.run_key = run.run_key AND part.part <> 0
) AS part ON true
LEFT JOIN LATERAL (
    SELECT sum(microtokens) AS microtokens FROM ledger_correction AS correction
    WHERE correction.shard = run.shard AND correction.account_id = run.account_id
      AND correction.run_key = run.run_key
) AS correction ON true
ORDER BY run.sequence DESC
