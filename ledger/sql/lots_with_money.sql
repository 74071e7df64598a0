-- Lots that have money in them, paid or owed, with what entries moved of them before an instant.
--
-- Entries, not runs: what a run took is what is out of the lot and no entry says otherwise. A slice
-- is worth the difference of two amounts, each rounded down (ledger.value).
--
-- locks       none
-- parameters  shards int[], account_ids bigint[], until_at timestamptz
-- row         the columns of ledger.worths.LotRow
SELECT lot.id AS lot_id, lot.account_id, lot.kind, lot.currency, lot.effective_at,
       lot.granted_microtokens, lot.price_micros, lot.tiers, lot.rolled_from_lot_id,
       lot.out_microtokens,
       coalesce(moved.microtokens, 0)::bigint AS moved_microtokens,
       coalesce(moved.expired_micros, 0)::bigint AS expired_micros,
       coalesce(moved.rolled_micros, 0)::bigint AS rolled_micros,
       coalesce(moved.revoked_micros, 0)::bigint AS revoked_micros,
       coalesce(moved.frozen_micros, 0)::bigint AS frozen_micros,
       moved.kinds
FROM ledger_lot_now AS lot
CROSS JOIN LATERAL (
    SELECT sum(sign * microtokens) AS microtokens,
           sum(micros) FILTER (WHERE kind = 'expire') AS expired_micros,
           sum(micros) FILTER (WHERE kind = 'roll_over') AS rolled_micros,
           sum(micros) FILTER (WHERE kind IN ('revoke', 'restore')) AS revoked_micros,
           sum(micros) FILTER (WHERE kind IN ('freeze', 'thaw')) AS frozen_micros,
           coalesce(array_agg(DISTINCT kind), '{}') AS kinds
    FROM (
        SELECT kind, sign, microtokens,
               div(lot.price_micros::numeric * (out_before_microtokens + sign * microtokens),
                   lot.granted_microtokens)
               - div(lot.price_micros::numeric * out_before_microtokens, lot.granted_microtokens)
                   AS micros
        FROM (
            SELECT entry.kind::text, entry.microtokens, entry.out_before_microtokens,
                   CASE WHEN entry.kind IN ('repaid', 'return', 'thaw', 'restore') THEN -1
                        ELSE 1 END AS sign
            FROM ledger_entry AS entry
            WHERE entry.shard = lot.shard AND entry.lot_id = lot.id
              AND entry.kind NOT IN ('grant', 'debit') AND entry.occurred_at < %(until_at)s
        ) AS entry
    ) AS slice
) AS moved
WHERE lot.shard = ANY (%(shards)s) AND lot.account_id = ANY (%(account_ids)s)
  AND (lot.price_micros > 0 OR lot.kind = 'overage')
ORDER BY lot.id
