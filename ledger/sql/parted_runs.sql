-- Runs that come in parts: whether their end is known, and whether they are free.
--
-- locks       the shard (lock_shard.sql), in an earlier statement
-- parameters  shard int, account_ids bigint[], run_keys uuid[]
-- row         account_id bigint, run_key uuid, has_ended, is_waived boolean
SELECT parted.account_id, parted.run_key, parted.ended_at IS NOT NULL,
       parted.waived_at IS NOT NULL
FROM unnest(%(account_ids)s::bigint[], %(run_keys)s::uuid[]) AS asked (account_id, run_key)
JOIN ledger_partedrun AS parted
    ON parted.shard = %(shard)s AND parted.account_id = asked.account_id
   AND parted.run_key = asked.run_key
