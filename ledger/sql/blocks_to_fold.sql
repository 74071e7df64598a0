-- The next blocks of a shard whose totals are not folded yet, as many as fit.
--
-- locks       the shard's fold (lock_fold.sql), in an earlier statement
-- parameters  shard int, after_number, blocks_max, bytes_max bigint
-- row         shard int, number bigint, corrections_count int, totals bytea
SELECT shard, number, corrections_count, totals
FROM (
    SELECT *, sum(length(totals)) OVER (ORDER BY number) - length(totals) AS bytes_before
    FROM (
        SELECT shard, number, corrections_count, totals
        FROM ledger_block
        WHERE shard = %(shard)s AND number > %(after_number)s
        ORDER BY number LIMIT %(blocks_max)s
    ) AS following
) AS fitting
WHERE bytes_before < %(bytes_max)s
ORDER BY number
