-- Holds that waited for a review are held now.
--
-- locks       the account (hold_account.sql), in an earlier statement
-- parameters  shard int, account_id bigint, at timestamptz; run_keys uuid[], expires_at timestamptz[],
--             microtokens, micros bigint[], limit_ids text[] (of each, an array)
WITH resumed AS (
    UPDATE ledger_hold AS hold
    SET held_at = %(at)s, expires_at = asked.expires_at, due_at = asked.expires_at,
        micros = asked.micros, limit_ids = asked.limit_ids::bigint[],
        counted_microtokens = asked.microtokens, counted_micros = asked.micros
    FROM unnest(
        %(run_keys)s::uuid[], %(expires_at)s::timestamptz[], %(microtokens)s::bigint[],
        %(micros)s::bigint[], %(limit_ids)s::text[]
    ) AS asked (run_key, expires_at, microtokens, micros, limit_ids)
    WHERE hold.shard = %(shard)s AND hold.account_id = %(account_id)s
      AND hold.run_key = asked.run_key
    RETURNING asked.microtokens
)
UPDATE ledger_standing
SET held_microtokens = held_microtokens
                       + (SELECT coalesce(sum(microtokens), 0)::bigint FROM resumed)
WHERE shard = %(shard)s AND account_id = %(account_id)s
