-- The submissions with which the runs of a stretch of blocks came. They may have others' runs too.
--
-- locks       none
-- parameters  shard int, after_number, until_number bigint (the stretch: after the one, up to the
--             other)
-- row         runs_count int, details bytea: packed as ledger.packing says
SELECT runs_count, details
FROM ledger_submission
WHERE shard = %(shard)s AND id IN (
    SELECT submission.id
    FROM ledger_block AS block
    JOIN ledger_submission AS submission
        ON submission.shard = block.shard
       AND submission.id BETWEEN block.first_submission_id AND block.last_submission_id
    WHERE block.shard = %(shard)s
      AND block.number > %(after_number)s AND block.number <= %(until_number)s
)
