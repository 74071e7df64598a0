-- Write down that the other runs know of these retakes.
--
-- locks       the shard (lock_shard.sql), in an earlier statement
-- parameters  shard int, at timestamptz, account_ids bigint[], run_keys uuid[]
UPDATE ledger_retake AS retake
SET marked_at = %(at)s
FROM unnest(%(account_ids)s::bigint[], %(run_keys)s::uuid[]) AS marked (account_id, run_key)
WHERE retake.shard = %(shard)s AND retake.account_id = marked.account_id
  AND retake.run_key = marked.run_key AND retake.marked_at IS NULL
