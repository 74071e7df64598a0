-- All rows of debited runs, by the runs' keys: of each its own row, then its parts as they came.
--
-- locks       none
-- parameters  shard int, account_ids bigint[], run_keys uuid[]
-- row         the columns of ledger.history.RunRow
SELECT run.account_id, run.run_key, run.part, run.occurred_at, run.microtokens, run.micros,
       run.lot_id, run.out_before_microtokens, run.slices_count, run.attribution_key,
       run.engine_id, run.flags, run.submission_id, run.submission_position
FROM unnest(%(account_ids)s::bigint[], %(run_keys)s::uuid[]) AS asked (account_id, run_key)
CROSS JOIN LATERAL (
    SELECT * FROM ledger_run
    WHERE shard = %(shard)s AND account_id = asked.account_id AND run_key = asked.run_key
    OFFSET 0  -- row by row, by the key, whatever the table seems to be
) AS run
ORDER BY run.part <> 0, run.block_number, run.block_position
