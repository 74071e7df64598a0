-- Headers of a shard's blocks, in order.
--
-- locks       none
-- parameters  shard int, first_block, last_block bigint
-- row         number bigint, recorded_at timestamptz, leaves_count int, previous_hash, root, hash bytea
SELECT number, recorded_at, length(leaves) / 32, previous_hash, root, hash
FROM ledger_block
WHERE shard = %(shard)s AND number BETWEEN %(first_block)s AND %(last_block)s
ORDER BY number
