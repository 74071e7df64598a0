-- Give shards that have blocks, and were never folded, a row that says so.
--
-- locks       none
-- parameters  shards int[]
INSERT INTO ledger_usagefold (shard, folded_number)
SELECT shard, 0 FROM unnest(%(shards)s::int[]) AS asked (shard)
ORDER BY shard
ON CONFLICT (shard) DO NOTHING
