-- The lots of accounts from which something is left, in no order.
--
-- locks       the shard (lock_shard.sql), in an earlier statement
-- parameters  shard int, account_ids bigint[]
-- row         account_id, id, kind, priority, effective_at, expires_at (null: never), issued_at,
--             is_paid, granted_microtokens, out_microtokens
SELECT account_id, id, kind, priority, effective_at, expires_at, issued_at,
       price_micros > 0 AS is_paid, granted_microtokens, out_microtokens
FROM ledger_lot
WHERE shard = %(shard)s AND account_id = ANY (%(account_ids)s) AND open
