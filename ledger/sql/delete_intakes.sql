-- Delete intakes whose runs are debited.
--
-- locks       the shard (lock_shard.sql), in an earlier statement
-- parameters  shard int, ids bigint[]
DELETE FROM ledger_intake WHERE shard = %(shard)s AND id = ANY (%(ids)s::bigint[])
