-- A shard's last block, and when it was recorded; block 0 if there is none.
--
-- locks       none
-- parameters  shard int, never timestamptz (when block 0 was recorded)
-- row         number bigint, recorded_at timestamptz
SELECT number, recorded_at FROM ledger_block WHERE shard = %(shard)s
UNION ALL
SELECT 0, %(never)s
ORDER BY number DESC
LIMIT 1
