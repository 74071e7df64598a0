-- The hash of a leaf, and the submissions that its block's runs came with: those near one first.
--
-- locks       none
-- parameters  shard int, number bigint, leaf int, submission_id bigint
-- row         hash bytea, submission_ids bigint[]
SELECT substring(leaves FROM 32 * %(leaf)s::integer + 1 FOR 32), ARRAY(
    SELECT id
    FROM ledger_submission AS submission
    WHERE submission.shard = block.shard
      AND submission.id BETWEEN block.first_submission_id AND block.last_submission_id
    ORDER BY abs(id - %(submission_id)s)
)
FROM ledger_block AS block
WHERE shard = %(shard)s AND number = %(number)s
