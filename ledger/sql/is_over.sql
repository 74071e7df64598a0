-- Whether a run is debited: whole, or to the end.
--
-- locks       none
-- parameters  shard int, account_id bigint, run_key uuid
-- row         is_over boolean
SELECT EXISTS (
    SELECT FROM ledger_run AS run
    LEFT JOIN ledger_partedrun AS parted
        ON parted.shard = run.shard AND parted.account_id = run.account_id
       AND parted.run_key = run.run_key
    WHERE run.shard = %(shard)s AND run.account_id = %(account_id)s AND run.run_key = %(run_key)s
      AND run.part = 0 AND (run.flags & 8 = 0 OR parted.ended_at IS NOT NULL)
) AS is_over
