-- Shards in which a retake waits whose other run has come.
--
-- locks       none
-- parameters  none
-- row         shard int
SELECT DISTINCT retake.shard
FROM ledger_retake AS retake
JOIN ledger_run AS run
    ON run.shard = retake.shard AND run.account_id = retake.account_id
   AND run.run_key = retake.retaken_key AND run.part = 0
WHERE retake.marked_at IS NULL
ORDER BY retake.shard
