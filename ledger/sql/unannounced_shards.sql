-- Of shards in which runs were taken in, those that nobody has been told of yet.
--
-- Where an older intake still waits, its shard was announced with that one; and whoever drains a
-- shard looks again until nothing waits. This must be asked after the intakes are committed.
--
-- locks       none
-- parameters  shards bigint[], and ids bigint[], each the oldest of the intakes taken in there
-- row         shard bigint
SELECT told.shard
FROM unnest(%(shards)s::bigint[], %(ids)s::bigint[]) AS told (shard, id)
WHERE (SELECT min(id) FROM ledger_intake WHERE shard = told.shard::smallint) >= told.id
