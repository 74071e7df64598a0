-- Of these runs of an account, those that one leaf seals, in order.
--
-- locks       none
-- parameters  shard int, account_id bigint, run_keys uuid[], block_number bigint,
--             first_position, last_position int
-- row         the columns of ledger.leaves.RECORD that stand in a run's row, but that occurred_at is
--             a timestamptz; then block_position int, submission_id bigint, submission_position int
SELECT run.shard, run.account_id, run.run_key, run.part, run.sequence, run.occurred_at,
       run.microtokens, run.micros, run.lot_id, run.out_before_microtokens, run.slices_count,
       run.flags, run.engine_id, run.attribution_key, run.block_position, run.submission_id,
       run.submission_position
FROM unnest(%(run_keys)s::uuid[]) AS asked (run_key)
CROSS JOIN LATERAL (
    SELECT * FROM ledger_run
    WHERE shard = %(shard)s AND account_id = %(account_id)s AND run_key = asked.run_key
    OFFSET 0  -- row by row, by the key, whatever the table seems to be
) AS run
WHERE run.block_number = %(block_number)s
  AND run.block_position BETWEEN %(first_position)s AND %(last_position)s
ORDER BY run.block_position
