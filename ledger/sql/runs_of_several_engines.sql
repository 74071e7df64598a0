-- Runs of a stretch of blocks whose cost is that of several engines.
--
-- locks       none
-- parameters  shard int, after_number, until_number bigint (the stretch: after the one, up to the
--             other), account_ids bigint[] (null: all)
-- row         the columns of ledger.several.RunRow
SELECT account_id, attribution_key, occurred_at, microtokens, micros, flags, submission_id,
       submission_position
FROM ledger_run
WHERE shard = %(shard)s AND engine_id = 0 AND microtokens > 0
  AND block_number > %(after_number)s AND block_number <= %(until_number)s
  AND (%(account_ids)s::bigint[] IS NULL OR account_id = ANY (%(account_ids)s::bigint[]))
ORDER BY submission_id
