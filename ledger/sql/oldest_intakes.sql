-- The oldest intakes of a shard that make up one block: the first, and those after it as long as
-- all their runs together stay within the limit. Only their bytes are read.
--
-- locks       the shard (lock_shard.sql), in an earlier statement
-- parameters  shard int, runs_max int, intakes_max int
-- row         id bigint, runs_count int, runs bytea
SELECT id, runs_count, runs
FROM (
    SELECT shard, id, sum(runs_count) OVER (ORDER BY id) AS runs_so_far,
           row_number() OVER (ORDER BY id) AS position
    FROM (
        SELECT shard, id, runs_count FROM ledger_intake
        WHERE shard = %(shard)s ORDER BY id LIMIT %(intakes_max)s
    ) AS oldest
) AS counted
JOIN ledger_intake USING (shard, id)
WHERE position = 1 OR runs_so_far <= %(runs_max)s
ORDER BY id
