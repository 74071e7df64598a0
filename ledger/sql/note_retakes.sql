-- Write down which runs do which others again. A run in parts says it with each part.
--
-- locks       the shard (lock_shard.sql), in an earlier statement
-- parameters  shard int, at timestamptz, account_ids bigint[], run_keys uuid[], run_ids text[],
--             retaken_keys uuid[]
INSERT INTO ledger_retake (shard, account_id, run_key, run_id, retaken_key, recorded_at)
SELECT %(shard)s, retake.account_id, retake.run_key, retake.run_id, retake.retaken_key, %(at)s
FROM unnest(
    %(account_ids)s::bigint[], %(run_keys)s::uuid[], %(run_ids)s::text[], %(retaken_keys)s::uuid[]
) AS retake (account_id, run_key, run_id, retaken_key)
ON CONFLICT (shard, account_id, run_key) DO NOTHING
