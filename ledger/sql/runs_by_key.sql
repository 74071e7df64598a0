-- Debited runs by their keys, each with who it is for and when its block was written: of each the
-- run itself, then its parts as they came.
--
-- locks       none
-- parameters  account_ids bigint[], run_keys uuid[]
-- row         the columns of ledger.receipts.DebitedRow
SELECT run.account_id, run.run_key, run.part, run.occurred_at, run.sequence, run.microtokens,
       run.lot_id, run.out_before_microtokens, run.slices_count, run.flags, run.submission_id,
       run.submission_position, block.recorded_at, attribution.workflow, attribution.project,
       attribution.job, attribution.cost_centre, attribution.department, attribution.actor
FROM unnest(%(account_ids)s::bigint[], %(run_keys)s::uuid[]) AS asked (account_id, run_key)
JOIN ledger_run AS run
    ON run.shard = (asked.account_id & 255)::smallint AND run.account_id = asked.account_id
   AND run.run_key = asked.run_key
JOIN ledger_block AS block ON block.shard = run.shard AND block.number = run.block_number
JOIN ledger_attribution AS attribution
    ON attribution.shard = run.shard AND attribution.account_id = run.account_id
   AND attribution.key = run.attribution_key
ORDER BY run.part <> 0, run.block_number, run.block_position
