-- Publish the last block of a shard, if it has one that is not published yet.
--
-- locks       none: whoever publishes the same block at once publishes the same
-- parameters  shard int, at timestamptz
INSERT INTO ledger_head (shard, number, hash, published_at)
SELECT shard, number, hash, %(at)s
FROM ledger_block
WHERE shard = %(shard)s
ORDER BY number DESC
LIMIT 1
ON CONFLICT (shard, number) DO NOTHING
