-- A run is awaited again under a hold that was done with.
--
-- locks       the account (hold_account.sql), in an earlier statement
-- parameters  shard int, account_id bigint
UPDATE ledger_standing SET open_holds_count = open_holds_count + 1
WHERE shard = %(shard)s AND account_id = %(account_id)s
