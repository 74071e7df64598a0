-- The lots of accounts from which something is left, in no order.
--
-- locks       the shard (lock_shard.sql), in an earlier statement
-- parameters  shard int, account_ids bigint[], kinds text[] (in order of rank), never timestamptz
-- row         one, of arrays with an element a lot: account_id, id, rank of its kind (from 1),
--             priority bigint[], effective_at, expires_at, issued_at timestamptz[],
--             granted_microtokens, out_microtokens, price_micros (-1: by tiers) bigint[]
SELECT array_agg(account_id), array_agg(id),
       array_agg(array_position(%(kinds)s::text[], kind::text)::bigint),
       array_agg(priority::bigint),
       array_agg(effective_at), array_agg(coalesce(expires_at, %(never)s)), array_agg(issued_at),
       array_agg(granted_microtokens), array_agg(out_microtokens),
       array_agg(CASE WHEN tiers IS NULL THEN price_micros ELSE -1 END)
FROM ledger_lot
WHERE shard = %(shard)s AND account_id = ANY (%(account_ids)s::bigint[]) AND open
