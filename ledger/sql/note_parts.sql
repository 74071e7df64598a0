-- Write down that parts of runs came, and what they say: that the run has ended, that it is free.
--
-- locks       the shard (lock_shard.sql), in an earlier statement
-- parameters  shard int, at timestamptz, account_ids bigint[], run_keys uuid[], have_ended,
--             are_waived boolean[]
INSERT INTO ledger_partedrun AS parted (
    shard, account_id, run_key, first_at, last_part_at, ended_at, waived_at
)
SELECT %(shard)s, come.account_id, come.run_key, %(at)s, %(at)s,
       CASE WHEN come.has_ended THEN %(at)s::timestamptz END,
       CASE WHEN come.is_waived THEN %(at)s::timestamptz END
FROM unnest(
    %(account_ids)s::bigint[], %(run_keys)s::uuid[], %(have_ended)s::boolean[],
    %(are_waived)s::boolean[]
) AS come (account_id, run_key, has_ended, is_waived)
ON CONFLICT (shard, account_id, run_key) DO UPDATE
SET last_part_at = greatest(parted.last_part_at, excluded.last_part_at),
    -- A clock that was put back does not end a run before it began.
    ended_at = coalesce(parted.ended_at, greatest(excluded.ended_at, CASE
        WHEN excluded.ended_at IS NOT NULL THEN parted.first_at END)),
    waived_at = coalesce(parted.waived_at, excluded.waived_at)
