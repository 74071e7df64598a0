-- Up to which block shards are folded.
--
-- locks       none
-- parameters  shards int[]
-- row         shard int, folded_number bigint
SELECT shard, folded_number FROM ledger_usagefold WHERE shard = ANY (%(shards)s) ORDER BY shard
