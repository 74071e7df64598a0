-- How many runs a book has in submissions since an instant, by shard.
--
-- locks       none
-- parameters  book_id bigint, received_from timestamptz
-- row         shard int, runs_count bigint
SELECT submission.shard, sum(submission.runs_count)::bigint
FROM ledger_submission AS submission
JOIN ledger_batch AS batch ON batch.id = submission.batch_id
WHERE batch.book_id = %(book_id)s AND submission.received_at >= %(received_from)s
GROUP BY submission.shard
ORDER BY submission.shard
