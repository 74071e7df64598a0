-- Write what corrections of runs moved, in their order. Expiries and repayments name no run; an
-- expiry is no sooner than its lot's, though the clock was put back since that lot was closed.
--
-- locks       the shard (lock_shard.sql), in an earlier statement
-- parameters  shard int, occurred_at timestamptz, account_ids, lot_ids bigint[], kinds text[],
--             out_before_microtokens, microtokens bigint[], run_keys uuid[], parts bigint[] (both
--             null: no run), operation_keys text[]
INSERT INTO ledger_entry (
    shard, account_id, lot_id, kind, out_before_microtokens, microtokens, run_key, part,
    operation_key, occurred_at
)
SELECT %(shard)s, moved.account_id, moved.lot_id, moved.kind, moved.out_before_microtokens,
       moved.microtokens, moved.run_key, moved.part, moved.operation_key,
       CASE WHEN moved.kind = 'expire' THEN greatest(%(occurred_at)s::timestamptz, (
           SELECT closes_at FROM ledger_lot WHERE shard = %(shard)s AND id = moved.lot_id
       )) ELSE %(occurred_at)s END
FROM unnest(
    %(account_ids)s::bigint[], %(lot_ids)s::bigint[], %(kinds)s::text[],
    %(out_before_microtokens)s::bigint[], %(microtokens)s::bigint[], %(run_keys)s::uuid[],
    %(parts)s::bigint[], %(operation_keys)s::text[]
) WITH ORDINALITY AS moved (
    account_id, lot_id, kind, out_before_microtokens, microtokens, run_key, part, operation_key,
    position
)
ORDER BY moved.position
