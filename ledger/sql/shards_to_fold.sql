-- Shards with blocks whose totals are not folded yet.
--
-- locks       none
-- parameters  shards int (how many there are)
-- row         shard int
SELECT shard
FROM generate_series(0, %(shards)s - 1) AS all_shards (shard)
LEFT JOIN ledger_usagefold AS fold USING (shard)
WHERE EXISTS (
    SELECT FROM ledger_block AS block
    WHERE block.shard = all_shards.shard AND block.number > coalesce(fold.folded_number, 0)
)
ORDER BY shard
