-- The corrected runs of a stretch of blocks that took several engines: where the details of each
-- of their parts stand.
--
-- locks       none
-- parameters  shard int, after_number, until_number bigint (the stretch: after the one, up to the
--             other), account_ids bigint[] (null: all)
-- row         the columns of ledger.several.CorrectedRow
SELECT correction.block_number, run.account_id, run.attribution_key, run.occurred_at,
       part.submission_id, part.submission_position
FROM ledger_correction AS correction
JOIN ledger_run AS run
    ON run.shard = correction.shard AND run.account_id = correction.account_id
   AND run.run_key = correction.run_key AND run.part = 0
JOIN ledger_run AS part
    ON part.shard = correction.shard AND part.account_id = correction.account_id
   AND part.run_key = correction.run_key
WHERE correction.shard = %(shard)s AND run.engine_id = 0
  AND correction.block_number > %(after_number)s AND correction.block_number <= %(until_number)s
  AND (%(account_ids)s::bigint[] IS NULL
       OR correction.account_id = ANY (%(account_ids)s::bigint[]))
