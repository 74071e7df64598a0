-- The limits of accounts that are not ended, with the time zone in which their days begin.
--
-- locks       the accounts, in an earlier statement, to count on them; none to read
-- parameters  shards int[], account_ids bigint[]
-- row         the columns of ledger.caps.Cap
SELECT cap.id, cap.account_id, cap.scope, cap.scope_value, cap.period, cap.unit, cap.cap, cap.is_hard,
       cap.effective_at, cap.until_at, account.time_zone
FROM ledger_limit AS cap
JOIN ledger_account AS account ON account.shard = cap.shard AND account.id = cap.account_id
WHERE cap.shard = ANY (%(shards)s) AND cap.account_id = ANY (%(account_ids)s) AND cap.ended_at IS NULL
ORDER BY array_position(ARRAY['run', 'actor', 'workflow', 'project', 'job', 'cost_centre', 'account'],
                        cap.scope::text), cap.id
