-- Take one lot of each account into use: the debit draws on it alone while it serves.
--
-- locks       the shard (lock_shard.sql), in an earlier statement
-- parameters  shard int, account_ids bigint[], lot_ids bigint[], out_microtokens bigint[],
--             granted_microtokens bigint[], price_micros bigint[] (-1: by tiers),
--             from_at timestamptz[], until_at timestamptz[], mark bigint (as debit_accounts.sql)
UPDATE ledger_standing AS standing
SET in_use_lot_id = used.lot_id,
    in_use_out_microtokens = used.out_microtokens,
    in_use_granted_microtokens = used.granted_microtokens,
    in_use_price_micros = used.price_micros,
    in_use_from_at = used.from_at,
    in_use_until_at = used.until_at,
    mark = %(mark)s
FROM unnest(
    %(account_ids)s::bigint[], %(lot_ids)s::bigint[], %(out_microtokens)s::bigint[],
    %(granted_microtokens)s::bigint[], %(price_micros)s::bigint[], %(from_at)s::timestamptz[], %(until_at)s::timestamptz[]
) AS used (id, lot_id, out_microtokens, granted_microtokens, price_micros, from_at, until_at)
WHERE standing.shard = %(shard)s AND standing.account_id = used.id
