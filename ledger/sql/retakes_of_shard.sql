-- Retakes of a shard whose other run has come and does not know of them yet, oldest first.
--
-- locks       the shard (lock_shard.sql), in an earlier statement
-- parameters  shard int, account_ids bigint[], run_keys uuid[] (of the retakes; null: all),
--             retakes_max int
-- row         account_id bigint, run_key uuid, run_id text, retaken_key uuid
SELECT retake.account_id, retake.run_key, retake.run_id, retake.retaken_key
FROM ledger_retake AS retake
JOIN ledger_run AS run
    ON run.shard = retake.shard AND run.account_id = retake.account_id
   AND run.run_key = retake.retaken_key AND run.part = 0
WHERE retake.shard = %(shard)s AND retake.marked_at IS NULL
  AND (%(run_keys)s::uuid[] IS NULL OR (retake.account_id, retake.run_key) IN (
      SELECT * FROM unnest(%(account_ids)s::bigint[], %(run_keys)s::uuid[])
  ))
ORDER BY retake.recorded_at
LIMIT %(retakes_max)s
