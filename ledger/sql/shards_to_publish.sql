-- Shards whose last block is not published yet.
--
-- locks       none
-- parameters  shards int (how many there are)
-- row         shard int
SELECT shard
FROM generate_series(0, %(shards)s - 1) AS all_shards (shard)
WHERE EXISTS (
    SELECT FROM ledger_block AS block
    WHERE block.shard = all_shards.shard AND block.number > coalesce(
        (SELECT max(number) FROM ledger_head AS head WHERE head.shard = all_shards.shard), 0
    )
)
ORDER BY shard
