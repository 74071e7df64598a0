-- Shards with runs of which no part has come for a while.
--
-- locks       none
-- parameters  quiet_since timestamptz
-- row         shard int
SELECT DISTINCT shard FROM ledger_partedrun
WHERE ended_at IS NULL AND last_part_at <= %(quiet_since)s
ORDER BY shard
