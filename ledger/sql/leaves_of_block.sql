-- The hashes of a block's leaves, end to end.
--
-- locks       none
-- parameters  shard int, number bigint
-- row         leaves bytea
SELECT leaves FROM ledger_block WHERE shard = %(shard)s AND number = %(number)s
