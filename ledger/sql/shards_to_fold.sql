-- Shards with so many blocks whose totals are not folded yet, or with one that is older than that:
-- those first whose blocks have waited longest. The blocks of a shard are numbered without gaps.
--
-- locks       none
-- parameters  shards int (how many there are), blocks_min int, before timestamptz, shards_max int
-- row         shard int
SELECT shard
FROM generate_series(0, %(shards)s - 1) AS all_shards (shard)
LEFT JOIN ledger_usagefold AS fold USING (shard)
CROSS JOIN LATERAL (
    SELECT recorded_at FROM ledger_block
    WHERE ledger_block.shard = all_shards.shard
      AND number = coalesce(fold.folded_number, 0) + 1
) AS first
WHERE first.recorded_at < %(before)s
   OR EXISTS (
       SELECT FROM ledger_block
       WHERE ledger_block.shard = all_shards.shard
         AND number = coalesce(fold.folded_number, 0) + %(blocks_min)s
   )
ORDER BY first.recorded_at
LIMIT %(shards_max)s
