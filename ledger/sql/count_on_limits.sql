-- Add to what is used and held of limits; what is taken away is negative.
--
-- locks       the limits' accounts, in an earlier statement
-- parameters  limit_ids bigint[], scope_values text[], period_starts timestamptz[], used, held bigint[]
UPDATE ledger_limituse AS count
SET used = count.used + more.used, held = count.held + more.held
FROM unnest(
    %(limit_ids)s::bigint[], %(scope_values)s::text[], %(period_starts)s::timestamptz[],
    %(used)s::bigint[], %(held)s::bigint[]
) AS more (limit_id, scope_value, period_start, used, held)
WHERE count.shard = (more.limit_id & 255)::smallint AND count.limit_id = more.limit_id
  AND count.scope_value = more.scope_value AND count.period_start = more.period_start
