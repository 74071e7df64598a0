-- Details of runs, whole submissions of them, packed as ledger.packing says.
--
-- locks       none
-- parameters  shard int, ids bigint[]
-- row         id bigint, runs_count int, details bytea
SELECT id, runs_count, details FROM ledger_submission WHERE shard = %(shard)s AND id = ANY (%(ids)s)
