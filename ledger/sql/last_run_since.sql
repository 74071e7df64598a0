-- When the last of an account's debited runs occurred, of those since an instant. Reads all of its
-- runs.
--
-- locks       none
-- parameters  shard int, account_id bigint, since timestamptz
-- row         occurred_at timestamptz; null: none
SELECT max(occurred_at) AS occurred_at
FROM ledger_run
WHERE shard = %(shard)s AND account_id = %(account_id)s AND occurred_at >= %(since)s
