-- A hold that waited for a review is held now.
--
-- locks       the account (hold_account.sql), in an earlier statement
-- parameters  shard int, account_id bigint, run_key uuid, at, expires_at timestamptz,
--             microtokens, micros bigint, limit_ids bigint[]
WITH resumed AS (
    UPDATE ledger_hold
    SET held_at = %(at)s, expires_at = %(expires_at)s, due_at = %(expires_at)s,
        micros = %(micros)s, limit_ids = %(limit_ids)s,
        counted_microtokens = %(microtokens)s, counted_micros = %(micros)s
    WHERE shard = %(shard)s AND account_id = %(account_id)s AND run_key = %(run_key)s
)
UPDATE ledger_standing
SET held_microtokens = held_microtokens + %(microtokens)s
WHERE shard = %(shard)s AND account_id = %(account_id)s
