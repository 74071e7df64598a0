-- Shards with so many blocks whose totals are not folded yet, or with one that is older than that.
-- The blocks of a shard are numbered without gaps.
--
-- locks       none
-- parameters  shards int (how many there are), blocks_min int, before timestamptz
-- row         shard int
SELECT shard
FROM generate_series(0, %(shards)s - 1) AS all_shards (shard)
LEFT JOIN ledger_usagefold AS fold USING (shard)
WHERE EXISTS (
    SELECT FROM ledger_block AS block
    WHERE block.shard = all_shards.shard
      AND (block.number = coalesce(fold.folded_number, 0) + %(blocks_min)s
           OR block.number = coalesce(fold.folded_number, 0) + 1 AND block.recorded_at < %(before)s)
)
ORDER BY shard
