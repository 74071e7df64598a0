-- Number runs' receipts in their accounts, and take what they cost from each account's lot in use.
--
-- The cost is added whether or not that lot can serve it; the caller compares, and lays the runs of
-- the accounts where it can't over their lots.
--
-- An account's place in the arrays is found by halving: its id must ascend in them.
--
-- locks       the shard (lock_shard.sql), in an earlier statement
-- parameters  shard int, account_ids bigint[] (ascending), receipts_counts, microtokens bigint[],
--             marks bigint[] (1: not known), mark bigint (the new one)
-- row         one, of arrays: how many accounts there are; then of those accounts whose mark was
--             another, and of those with a hold or a limit: id, whether its mark was another (0, 1),
--             how many open holds and limits it has now; and as they were before it: runs_count,
--             in_use_lot_id (0: none), in_use_out_microtokens, in_use_granted_microtokens,
--             in_use_price_micros (-1: by tiers) bigint[], in_use_from_at, in_use_until_at timestamptz[]
WITH debited AS (
    UPDATE ledger_standing
    SET runs_count = runs_count
            + (%(receipts_counts)s::bigint[])[width_bucket(account_id, %(account_ids)s::bigint[])],
        in_use_out_microtokens = in_use_out_microtokens
            + (%(microtokens)s::bigint[])[width_bucket(account_id, %(account_ids)s::bigint[])],
        -- Below 0 it is to be told; RETURNING does not know the old one.
        mark = CASE WHEN abs(mark) = (%(marks)s::bigint[])[
                   width_bucket(account_id, %(account_ids)s::bigint[])
               ] THEN %(mark)s::bigint ELSE - %(mark)s::bigint END
    WHERE shard = %(shard)s AND account_id = ANY (%(account_ids)s::bigint[])
    RETURNING account_id, mark < 0 AS is_other, open_holds_count::bigint + limits_count AS watchers
)
SELECT ARRAY[(SELECT count(*) FROM debited)],
       array_agg(account_id), array_agg(is_other::integer::bigint), array_agg(watchers),
       array_agg(runs_count),
       array_agg(coalesce(in_use_lot_id, 0)),
       array_agg(coalesce(in_use_out_microtokens, 0)),
       array_agg(coalesce(in_use_granted_microtokens, 1)),
       array_agg(coalesce(in_use_price_micros, 0)),
       array_agg(coalesce(in_use_from_at, '2000-01-01Z')),
       array_agg(coalesce(in_use_until_at, '2000-01-01Z'))
FROM debited
-- As it stood before: a statement does not see what it writes itself.
JOIN ledger_standing USING (account_id)
WHERE shard = %(shard)s AND (is_other OR watchers > 0)
