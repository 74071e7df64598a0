-- Runs that come in parts: whether a further part is a correction of what is known of them (their
-- end, that they are free, failed or were done again).
--
-- locks       the shard (lock_shard.sql), in an earlier statement
-- parameters  shard int, account_ids bigint[], run_keys uuid[]
-- row         account_id bigint, run_key uuid, is_known boolean
SELECT parted.account_id, parted.run_key,
       parted.ended_at IS NOT NULL OR parted.waived_at IS NOT NULL OR EXISTS (
           SELECT FROM ledger_correction AS correction
           WHERE correction.shard = parted.shard AND correction.account_id = parted.account_id
             AND correction.run_key = parted.run_key AND correction.kind IN ('outcome', 'retaken')
       )
FROM unnest(%(account_ids)s::bigint[], %(run_keys)s::uuid[]) AS asked (account_id, run_key)
JOIN ledger_partedrun AS parted
    ON parted.shard = %(shard)s AND parted.account_id = asked.account_id
   AND parted.run_key = asked.run_key
