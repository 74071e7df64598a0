-- The last block of a shard.
--
-- locks       the shard (lock_shard.sql), in an earlier statement
-- parameters  shard int
-- row         number bigint, hash bytea, recorded_at timestamptz; none while the shard has no block
SELECT number, hash, recorded_at FROM ledger_block WHERE shard = %(shard)s ORDER BY number DESC LIMIT 1
