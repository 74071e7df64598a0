-- An account's runs, and parts of runs, as their receipts' leaves say them: in order of the leaves.
--
-- locks       none
-- parameters  shard int, account_id bigint, run_key uuid (null: all), first_block, last_block bigint
-- row         the columns of ledger.proofs.LeafRow
SELECT run.block_number, run.block_position, run.run_key, run.part, run.sequence, run.occurred_at,
       run.microtokens, run.micros, run.lot_id, run.out_before_microtokens, run.slices_count,
       run.flags, run.engine_id, run.submission_id, run.submission_position, attribution.workflow,
       attribution.project, attribution.job, attribution.cost_centre, attribution.department,
       attribution.actor
FROM ledger_run AS run
JOIN ledger_attribution AS attribution
    ON attribution.shard = run.shard AND attribution.account_id = run.account_id
   AND attribution.key = run.attribution_key
WHERE run.shard = %(shard)s AND run.account_id = %(account_id)s
  AND run.run_key = coalesce(%(run_key)s::uuid, run.run_key)
  AND run.block_number BETWEEN %(first_block)s AND %(last_block)s
ORDER BY run.block_number, run.block_position
