-- Runs that come in parts: whether a further part is a correction of what is known of them (their
-- end, that they are free, failed or were done again).
--
-- locks       the shard (lock_shard.sql), in an earlier statement
-- parameters  shard int, account_ids bigint[], run_keys uuid[]
-- row         account_id bigint, run_key uuid, is_known boolean
SELECT asked.account_id, asked.run_key, parted.is_known
FROM unnest(%(account_ids)s::bigint[], %(run_keys)s::uuid[]) AS asked (account_id, run_key)
CROSS JOIN LATERAL (
    SELECT ended_at IS NOT NULL OR waived_at IS NOT NULL OR EXISTS (
               SELECT FROM ledger_correction AS correction
               WHERE correction.shard = %(shard)s AND correction.account_id = asked.account_id
                 AND correction.run_key = asked.run_key
                 AND correction.kind IN ('outcome', 'retaken')
           ) AS is_known
    FROM ledger_partedrun
    WHERE shard = %(shard)s AND account_id = asked.account_id AND run_key = asked.run_key
    OFFSET 0  -- row by row, by the key: a plan for a table that seems small costs seconds
) AS parted
