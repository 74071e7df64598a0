-- Write how much of lots is out now; a lot from which nothing is left is open no more.
--
-- locks       the shard (lock_shard.sql), in an earlier statement
-- parameters  shard int, lot_ids bigint[], out_microtokens bigint[]
UPDATE ledger_lot AS lot
SET out_microtokens = moved.out_microtokens,
    open = moved.out_microtokens < lot.granted_microtokens
FROM unnest(%(lot_ids)s::bigint[], %(out_microtokens)s::bigint[]) AS moved (id, out_microtokens)
WHERE lot.shard = %(shard)s AND lot.id = moved.id
