-- The oldest intake that waits in each of these shards; shards in which none waits are left out.
--
-- locks       none
-- parameters  shards bigint[]
-- row         shard bigint, id bigint
SELECT shard, id
FROM unnest(%(shards)s::bigint[]) AS told (shard)
CROSS JOIN LATERAL (
    SELECT min(id) AS id FROM ledger_intake WHERE ledger_intake.shard = told.shard::smallint
) AS oldest
WHERE id IS NOT NULL
