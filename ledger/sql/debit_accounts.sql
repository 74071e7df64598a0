-- Number runs' receipts in their accounts, and take what they cost from each account's lot in use.
--
-- The cost is added whether or not that lot can serve it; the caller compares what comes back
-- and lays the runs of the accounts where it can't over their lots, one by one.
--
-- locks       the shard (lock_shard.sql), in an earlier statement
-- parameters  shard int, account_ids bigint[], receipts_counts bigint[], microtokens bigint[]
-- row         one, of arrays with an element an account: id, runs_count, in_use_lot_id (0: none),
--             in_use_out_microtokens, in_use_granted_microtokens, in_use_price_micros (-1: by
--             tiers), how many open holds and limits it has bigint[], in_use_from_at,
--             in_use_until_at timestamptz[]
WITH debited AS (
    UPDATE ledger_standing AS standing
    SET runs_count = standing.runs_count + batch.receipts_count,
        in_use_out_microtokens = standing.in_use_out_microtokens + batch.microtokens
    FROM unnest(%(account_ids)s::bigint[], %(receipts_counts)s::bigint[], %(microtokens)s::bigint[])
        AS batch (id, receipts_count, microtokens)
    WHERE standing.shard = %(shard)s AND standing.account_id = batch.id
    RETURNING standing.*
)
SELECT array_agg(account_id), array_agg(runs_count),
       array_agg(coalesce(in_use_lot_id, 0)),
       array_agg(coalesce(in_use_out_microtokens, 0)),
       array_agg(coalesce(in_use_granted_microtokens, 1)),
       array_agg(coalesce(in_use_price_micros, 0)),
       array_agg(open_holds_count::bigint + limits_count),
       array_agg(coalesce(in_use_from_at, '2000-01-01Z')),
       array_agg(coalesce(in_use_until_at, '2000-01-01Z'))
FROM debited
