-- End a shard's runs of which no part has come for a while, those first that have been quiet longest.
--
-- locks       the shard (lock_shard.sql), in an earlier statement
-- parameters  shard int, quiet_since, at timestamptz, runs_max int
WITH quiet AS (
    SELECT account_id, run_key
    FROM ledger_partedrun
    WHERE shard = %(shard)s AND ended_at IS NULL AND last_part_at <= %(quiet_since)s
    ORDER BY last_part_at
    LIMIT %(runs_max)s
)
UPDATE ledger_partedrun AS parted
SET ended_at = greatest(%(at)s, parted.last_part_at)
FROM quiet
WHERE parted.shard = %(shard)s AND parted.account_id = quiet.account_id
  AND parted.run_key = quiet.run_key
