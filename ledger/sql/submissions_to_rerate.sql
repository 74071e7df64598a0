-- A book's submissions of a shard that may hold inferences of a time, in order of arrival.
--
-- locks       none
-- parameters  shard int, book_id bigint, received_from timestamptz, after_id bigint
-- row         id bigint, runs_count int, details bytea
SELECT submission.id, submission.runs_count, submission.details
FROM ledger_submission AS submission
JOIN ledger_batch AS batch ON batch.id = submission.batch_id
WHERE submission.shard = %(shard)s AND batch.book_id = %(book_id)s
  AND submission.received_at >= %(received_from)s AND submission.id > %(after_id)s
ORDER BY submission.id
LIMIT 1
