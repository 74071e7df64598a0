-- Which of the runs that holds are asked for have one already, or are debited: whole, or to the end.
--
-- locks       the accounts (hold_accounts.sql), in an earlier statement
-- parameters  account_ids bigint[], run_keys uuid[]
-- row         account_id bigint, run_key uuid, is_held boolean
SELECT asked.account_id, asked.run_key, hold.run_key IS NOT NULL AS is_held
FROM unnest(%(account_ids)s::bigint[], %(run_keys)s::uuid[]) AS asked (account_id, run_key)
LEFT JOIN ledger_hold AS hold
    ON hold.shard = (asked.account_id & 255)::smallint AND hold.account_id = asked.account_id
   AND hold.run_key = asked.run_key
LEFT JOIN ledger_run AS run
    ON run.shard = (asked.account_id & 255)::smallint AND run.account_id = asked.account_id
   AND run.run_key = asked.run_key AND run.part = 0
WHERE hold.run_key IS NOT NULL OR run.flags & 8 = 0
   OR run.flags & 8 > 0 AND EXISTS (
          SELECT FROM ledger_partedrun AS parted
          WHERE parted.shard = run.shard AND parted.account_id = run.account_id
            AND parted.run_key = run.run_key AND parted.ended_at IS NOT NULL
      )
