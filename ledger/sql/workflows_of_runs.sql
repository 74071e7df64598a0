-- The debited runs, or parts of them, whose details stand at places of a submission.
--
-- locks       none
-- parameters  shard int, submission_id bigint, account_ids bigint[], run_keys uuid[], parts bigint[]
-- row         submission_position int, workflow text
SELECT run.submission_position, attribution.workflow
FROM unnest(%(account_ids)s::bigint[], %(run_keys)s::uuid[], %(parts)s::bigint[])
    AS asked (account_id, run_key, part)
JOIN ledger_run AS run
    ON run.shard = %(shard)s AND run.account_id = asked.account_id
   AND run.run_key = asked.run_key AND run.part = asked.part
JOIN ledger_attribution AS attribution
    ON attribution.shard = run.shard AND attribution.account_id = run.account_id
   AND attribution.key = run.attribution_key
WHERE run.submission_id = %(submission_id)s
