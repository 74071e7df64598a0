-- Take the oldest intakes of a shard that make up one block: the first, and those after it as long
-- as all their runs together stay within the limit. They are deleted; of the others not a byte of
-- their runs is read.
--
-- locks       the shard (lock_shard.sql), in an earlier statement
-- parameters  shard int, runs_max int, intakes_max int
-- row         id bigint, runs_count int, runs bytea
WITH taken AS (
    DELETE FROM ledger_intake
    WHERE shard = %(shard)s AND id = ANY (ARRAY(
        SELECT id
        FROM (
            SELECT id, sum(runs_count) OVER (ORDER BY id) AS runs_so_far,
                   row_number() OVER (ORDER BY id) AS position
            FROM (
                SELECT id, runs_count FROM ledger_intake
                WHERE shard = %(shard)s ORDER BY id LIMIT %(intakes_max)s
            ) AS oldest
        ) AS counted
        WHERE position = 1 OR runs_so_far <= %(runs_max)s
    ))
    RETURNING id, runs_count, runs
)
SELECT id, runs_count, runs FROM taken ORDER BY id
