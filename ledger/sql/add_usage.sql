-- Add to usage, rows of one rung; instants are counted in quarters of an hour since 1970.
--
-- locks       the shard's fold (lock_fold.sql), in an earlier statement
-- parameters  shard, rung int, account_ids, begin_quarters bigint[], attribution_keys uuid[],
--             engine_ids bigint[]; runs_count, accepted_first_count, failed_count, retakes_count,
--             microtokens, micros, rework_microtokens, rework_micros bigint[]
INSERT INTO ledger_usage AS known (
    shard, account_id, rung, begins_at, attribution_key, engine_id, runs_count,
    accepted_first_count, failed_count, retakes_count, microtokens, micros, rework_microtokens,
    rework_micros
)
SELECT %(shard)s, account_id, %(rung)s,
       '1970-01-01Z'::timestamptz + begin_quarter * interval '15 minutes', attribution_key,
       engine_id, runs_count, accepted_first_count, failed_count, retakes_count, microtokens,
       micros, rework_microtokens, rework_micros
FROM unnest(
    %(account_ids)s::bigint[], %(begin_quarters)s::bigint[], %(attribution_keys)s::uuid[],
    %(engine_ids)s::bigint[], %(runs_count)s::bigint[], %(accepted_first_count)s::bigint[],
    %(failed_count)s::bigint[], %(retakes_count)s::bigint[], %(microtokens)s::bigint[],
    %(micros)s::bigint[], %(rework_microtokens)s::bigint[], %(rework_micros)s::bigint[]
) AS added (
    account_id, begin_quarter, attribution_key, engine_id, runs_count, accepted_first_count,
    failed_count, retakes_count, microtokens, micros, rework_microtokens, rework_micros
)
ON CONFLICT (shard, account_id, rung, begins_at, attribution_key, engine_id) DO UPDATE
SET runs_count = known.runs_count + excluded.runs_count,
    accepted_first_count = known.accepted_first_count + excluded.accepted_first_count,
    failed_count = known.failed_count + excluded.failed_count,
    retakes_count = known.retakes_count + excluded.retakes_count,
    microtokens = known.microtokens + excluded.microtokens,
    micros = known.micros + excluded.micros,
    rework_microtokens = known.rework_microtokens + excluded.rework_microtokens,
    rework_micros = known.rework_micros + excluded.rework_micros
