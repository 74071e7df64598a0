-- Write a block.
--
-- locks       the shard (lock_shard.sql), in an earlier statement
-- parameters  shard int, number bigint, recorded_at timestamptz, runs_count, corrections_count int,
--             first_submission_id, last_submission_id bigint (null: it has no runs),
--             microtokens, micros bigint, leaves, totals, root, previous_hash, hash bytea
INSERT INTO ledger_block (
    shard, number, recorded_at, runs_count, corrections_count, first_submission_id,
    last_submission_id, microtokens, micros, leaves, totals, root, previous_hash, hash
)
VALUES (
    %(shard)s, %(number)s, %(recorded_at)s, %(runs_count)s, %(corrections_count)s,
    %(first_submission_id)s, %(last_submission_id)s, %(microtokens)s, %(micros)s, %(leaves)s,
    %(totals)s, %(root)s, %(previous_hash)s, %(hash)s
)
