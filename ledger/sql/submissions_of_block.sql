-- With which submissions the runs of a block came: from the first to the last.
--
-- locks       none
-- parameters  shard int, number bigint
-- row         id bigint, runs_count int, details bytea
SELECT submission.id, submission.runs_count, submission.details
FROM ledger_block AS block
JOIN ledger_submission AS submission
    ON submission.shard = block.shard
   AND submission.id BETWEEN block.first_submission_id AND block.last_submission_id
WHERE block.shard = %(shard)s AND block.number = %(number)s
