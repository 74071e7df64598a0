-- Write the entries of runs that crossed lots: one for each slice, in draw-down order.
--
-- locks       the shard (lock_shard.sql), in an earlier statement
-- parameters  shard int, kind text, account_ids bigint[], run_keys uuid[], parts bigint[], occurred_at timestamptz[],
--             lot_ids bigint[], out_before_microtokens bigint[], microtokens bigint[]
INSERT INTO ledger_entry (
    shard, account_id, lot_id, kind, out_before_microtokens, microtokens, run_key, part, occurred_at
)
SELECT %(shard)s, slice.account_id, slice.lot_id, %(kind)s, slice.out_before_microtokens,
       slice.microtokens, slice.run_key, slice.part, slice.occurred_at
FROM unnest(
    %(account_ids)s::bigint[], %(lot_ids)s::bigint[], %(out_before_microtokens)s::bigint[],
    %(microtokens)s::bigint[], %(run_keys)s::uuid[], %(parts)s::bigint[],
    %(occurred_at)s::timestamptz[]
) WITH ORDINALITY AS slice (
    account_id, lot_id, out_before_microtokens, microtokens, run_key, part, occurred_at, position
)
ORDER BY slice.position
