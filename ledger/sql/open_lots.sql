-- The lots of accounts from which something is left, in no order.
--
-- locks       the shard (lock_shard.sql), in an earlier statement
-- parameters  shard int, account_ids bigint[]
-- row         account_id, id bigint, kind text, priority int, effective_at_us, expires_at_us (null:
--             never), issued_at_us, granted_microtokens, out_microtokens, price_micros bigint,
--             tiers text (JSON, of overage lots)
SELECT account_id, id, kind, priority,
       (extract(epoch FROM effective_at) * 1000000)::bigint,
       (extract(epoch FROM expires_at) * 1000000)::bigint,
       (extract(epoch FROM issued_at) * 1000000)::bigint,
       granted_microtokens, out_microtokens, price_micros, tiers::text
FROM ledger_lot
WHERE shard = %(shard)s AND account_id = ANY (%(account_ids)s::bigint[]) AND open
