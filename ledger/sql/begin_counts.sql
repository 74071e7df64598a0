-- Make sure that there is a row to count on, for each value and period of a limit.
--
-- locks       the limits' accounts, in an earlier statement
-- parameters  limit_ids bigint[], scope_values text[], period_starts timestamptz[]
INSERT INTO ledger_limituse (shard, limit_id, scope_value, period_start, used, held)
SELECT (limit_id & 255)::smallint, limit_id, scope_value, period_start, 0, 0
FROM unnest(%(limit_ids)s::bigint[], %(scope_values)s::text[], %(period_starts)s::timestamptz[])
    AS count (limit_id, scope_value, period_start)
ON CONFLICT (shard, limit_id, scope_value, period_start) DO NOTHING
