-- An account's corrections, in order of their leaves.
--
-- locks       none
-- parameters  shard int, account_id bigint, run_key uuid (null: all), first_block, last_block bigint
-- row         the columns of ledger.proofs.CorrectionRow
SELECT block_number, block_position, run_key, version, recorded_at, microtokens, micros, details
FROM ledger_correction
WHERE shard = %(shard)s AND account_id = %(account_id)s
  AND run_key = coalesce(%(run_key)s::uuid, run_key)
  AND block_number BETWEEN %(first_block)s AND %(last_block)s
ORDER BY block_number, block_position
