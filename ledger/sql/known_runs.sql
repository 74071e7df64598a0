-- Which of these runs are debited already, with the digest of the body they came with.
--
-- locks       the shard (lock_shard.sql), in an earlier statement
-- parameters  shard int, account_ids bigint[], run_keys uuid[], parts bigint[]
-- row         account_id bigint, run_key uuid, part bigint, body_digest bigint
SELECT run.account_id, run.run_key, run.part, run.body_digest
FROM unnest(%(account_ids)s::bigint[], %(run_keys)s::uuid[], %(parts)s::bigint[])
    AS asked (account_id, run_key, part)
JOIN ledger_run AS run
    ON run.shard = %(shard)s AND run.account_id = asked.account_id
   AND run.run_key = asked.run_key AND run.part = asked.part
