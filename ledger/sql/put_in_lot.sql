-- Write a new lot.
--
-- locks       the shard (lock_shard.sql), in an earlier statement
-- parameters  as the columns of ledger.models.Lot, tiers as JSON's text: id, shard, account_id, kind,
--             source, priority, issued_at, effective_at, expires_at, closes_at, granted_microtokens,
--             price_micros, currency, tiers, rollover_microtokens_max, rollover_expires_at,
--             rolled_from_lot_id, out_microtokens, open
INSERT INTO ledger_lot (
    id, shard, account_id, kind, source, priority, issued_at, effective_at, expires_at, closes_at,
    granted_microtokens, price_micros, currency, tiers, rollover_microtokens_max,
    rollover_expires_at, rolled_from_lot_id, out_microtokens, open
)
VALUES (
    %(id)s, %(shard)s, %(account_id)s, %(kind)s, %(source)s, %(priority)s, %(issued_at)s,
    %(effective_at)s, %(expires_at)s, %(closes_at)s, %(granted_microtokens)s, %(price_micros)s,
    %(currency)s, %(tiers)s, %(rollover_microtokens_max)s, %(rollover_expires_at)s,
    %(rolled_from_lot_id)s, %(out_microtokens)s, %(open)s
)
