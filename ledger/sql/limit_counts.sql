-- What is used and held of limits.
--
-- locks       the limits' accounts, in an earlier statement, to decide by it
-- parameters  limit_ids bigint[], scope_values text[], period_starts timestamptz[]
-- row         limit_id bigint, scope_value text, period_start timestamptz, used, held bigint
SELECT count.limit_id, count.scope_value, count.period_start, count.used, count.held
FROM unnest(%(limit_ids)s::bigint[], %(scope_values)s::text[], %(period_starts)s::timestamptz[])
    AS asked (limit_id, scope_value, period_start)
JOIN ledger_limituse AS count
    ON count.shard = (asked.limit_id & 255)::smallint AND count.limit_id = asked.limit_id
   AND count.scope_value = asked.scope_value AND count.period_start = asked.period_start
