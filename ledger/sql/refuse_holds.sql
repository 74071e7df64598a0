-- Holds that waited for a review are refused. A run that comes all the same is debited as any other.
--
-- locks       the account (hold_account.sql), in an earlier statement
-- parameters  shard int, account_id bigint, at timestamptz, run_keys uuid[], refusals text[]
WITH refused AS (
    UPDATE ledger_hold AS hold
    SET refused_at = %(at)s, refusal = asked.refusal, due_at = NULL
    FROM unnest(%(run_keys)s::uuid[], %(refusals)s::text[]) AS asked (run_key, refusal)
    WHERE hold.shard = %(shard)s AND hold.account_id = %(account_id)s
      AND hold.run_key = asked.run_key
    RETURNING 1
)
UPDATE ledger_standing
SET open_holds_count = open_holds_count - (SELECT count(*) FROM refused)
WHERE shard = %(shard)s AND account_id = %(account_id)s
