-- End runs of which no part has come for a while, those first that have been quiet longest.
--
-- locks       the rows; those that a debit holds are left for the next time
-- parameters  quiet_since, at timestamptz, runs_max int
WITH quiet AS (
    SELECT shard, account_id, run_key
    FROM ledger_partedrun
    WHERE ended_at IS NULL AND last_part_at <= %(quiet_since)s
    ORDER BY last_part_at
    LIMIT %(runs_max)s
    FOR UPDATE SKIP LOCKED
)
UPDATE ledger_partedrun AS parted
SET ended_at = greatest(%(at)s, parted.last_part_at)
FROM quiet
WHERE parted.shard = quiet.shard AND parted.account_id = quiet.account_id
  AND parted.run_key = quiet.run_key
