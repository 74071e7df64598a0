-- Lots as their rows say.
--
-- locks       the shard (lock_shard.sql), in an earlier statement; their accounts' lots in use are put
--             away (put_away_lots.sql)
-- parameters  shard int, lot_ids bigint[]
-- row         the columns of ledger.models.Lot, in its order
SELECT id, shard, account_id, kind, source, priority, issued_at, effective_at, expires_at, closes_at,
       granted_microtokens, price_micros, currency, tiers, rollover_microtokens_max,
       rollover_expires_at, rolled_from_lot_id, out_microtokens, open
FROM ledger_lot
WHERE shard = %(shard)s AND id = ANY (%(lot_ids)s::bigint[])
