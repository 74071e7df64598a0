-- The last published head of each shard, as of a time.
--
-- locks       none
-- parameters  at timestamptz
-- row         the columns of ledger.heads.PublishedHead, by shard
SELECT DISTINCT ON (shard) shard, number, hash, published_at
FROM ledger_head
WHERE published_at <= %(at)s
ORDER BY shard, number DESC
