-- The blocks of shards whose totals are not folded yet.
--
-- locks       none
-- parameters  shards int[]
-- row         shard int, number bigint, corrections_count int, totals bytea
SELECT block.shard, block.number, block.corrections_count, block.totals
FROM unnest(%(shards)s::int[]) AS asked (shard)
LEFT JOIN ledger_usagefold AS fold ON fold.shard = asked.shard
JOIN ledger_block AS block
    ON block.shard = asked.shard AND block.number > coalesce(fold.folded_number, 0)
ORDER BY block.shard, block.number
