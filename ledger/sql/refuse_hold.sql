-- A hold that waited for a review is refused. A run that comes all the same is debited as any other.
--
-- locks       the account (hold_account.sql), in an earlier statement
-- parameters  shard int, account_id bigint, run_key uuid, at timestamptz, refusal text
WITH refused AS (
    UPDATE ledger_hold
    SET refused_at = %(at)s, refusal = %(refusal)s, due_at = NULL
    WHERE shard = %(shard)s AND account_id = %(account_id)s AND run_key = %(run_key)s
)
UPDATE ledger_standing SET open_holds_count = open_holds_count - 1
WHERE shard = %(shard)s AND account_id = %(account_id)s
