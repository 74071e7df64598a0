-- What runs have cost so far, all their parts together.
--
-- locks       the shard (lock_shard.sql), in an earlier statement
-- parameters  shard int, account_ids bigint[], run_keys uuid[]
-- row         account_id bigint, run_key uuid, microtokens, micros bigint
SELECT run.account_id, run.run_key, sum(run.microtokens)::bigint AS microtokens,
       sum(run.micros)::bigint AS micros
FROM unnest(%(account_ids)s::bigint[], %(run_keys)s::uuid[]) AS asked (account_id, run_key)
JOIN ledger_run AS run
    ON run.shard = %(shard)s AND run.account_id = asked.account_id AND run.run_key = asked.run_key
GROUP BY run.account_id, run.run_key
