-- Lots of accounts as they are now, in draw-down order within each account.
--
-- locks       none
-- parameters  shards int[], account_ids bigint[]
-- row         the columns of ledger.queries.LotRow
SELECT id, account_id, kind, source, priority, issued_at, effective_at, expires_at, closes_at,
       granted_microtokens, out_microtokens, price_micros, currency, tiers,
       rollover_microtokens_max, rollover_expires_at, rolled_from_lot_id
FROM ledger_lot_now
WHERE shard = ANY (%(shards)s) AND account_id = ANY (%(account_ids)s)
ORDER BY account_id, array_position(ARRAY['prepaid', 'overage', 'debt'], kind::text), priority,
         expires_at NULLS LAST, price_micros > 0, issued_at, id
