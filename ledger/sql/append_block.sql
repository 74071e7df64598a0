-- Write a block.
--
-- locks       the shard (lock_shard.sql), in an earlier statement
-- parameters  shard int, number bigint, recorded_at timestamptz, runs_count, corrections_count int,
--             microtokens, micros bigint, leaves, totals, root, previous_hash, hash bytea
INSERT INTO ledger_block (
    shard, number, recorded_at, runs_count, corrections_count, microtokens, micros, leaves, totals,
    root, previous_hash, hash
)
VALUES (
    %(shard)s, %(number)s, %(recorded_at)s, %(runs_count)s, %(corrections_count)s,
    %(microtokens)s, %(micros)s, %(leaves)s, %(totals)s, %(root)s, %(previous_hash)s, %(hash)s
)
