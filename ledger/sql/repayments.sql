-- How much of debt each lot of an account has repaid, and not been given back; the latest first.
--
-- locks       the shard (lock_shard.sql), in an earlier statement
-- parameters  shard int, account_id bigint, debt_lot_id bigint
-- row         lot_id bigint, microtokens bigint
SELECT entry.lot_id,
       sum(CASE entry.kind WHEN 'repay' THEN entry.microtokens ELSE -entry.microtokens END)::bigint
FROM ledger_lot AS lot
JOIN ledger_entry AS entry ON entry.shard = lot.shard AND entry.lot_id = lot.id
WHERE lot.shard = %(shard)s AND lot.account_id = %(account_id)s AND lot.id <> %(debt_lot_id)s
  AND entry.kind IN ('repay', 'repaid')
GROUP BY entry.lot_id
ORDER BY max(entry.id) FILTER (WHERE entry.kind = 'repay') DESC
