-- Give back what a hold counts for. It is watched until `due_at` in case its run comes all the same.
--
-- locks       the account (hold_account.sql), in an earlier statement
-- parameters  shard int, account_id bigint, run_key uuid, at, due_at timestamptz, microtokens bigint
WITH released AS (
    UPDATE ledger_hold
    SET released_at = %(at)s, counted_microtokens = 0, counted_micros = 0, due_at = %(due_at)s
    WHERE shard = %(shard)s AND account_id = %(account_id)s AND run_key = %(run_key)s
)
UPDATE ledger_standing
SET held_microtokens = held_microtokens - %(microtokens)s
WHERE shard = %(shard)s AND account_id = %(account_id)s
