-- The runs for which accounts hold something, or held it not long ago.
--
-- locks       the accounts, in an earlier statement
-- parameters  shard int, account_ids bigint[]
-- row         run_key uuid
SELECT run_key FROM ledger_hold
WHERE shard = %(shard)s AND account_id = ANY (%(account_ids)s::bigint[]) AND due_at IS NOT NULL
