-- Write what is out of the lots in use back to the lots' own rows, and put those lots away.
--
-- After it, the rows of these accounts' lots are the whole truth; the next debit takes a lot
-- into use again.
--
-- locks       the shard (lock_shard.sql), in an earlier statement
-- parameters  shard int, account_ids bigint[]
WITH put_away AS (
    UPDATE ledger_lot AS lot
    SET out_microtokens = standing.in_use_out_microtokens,
        open = standing.in_use_out_microtokens < lot.granted_microtokens
    FROM ledger_standing AS standing
    WHERE standing.shard = %(shard)s
      AND standing.account_id = ANY (%(account_ids)s::bigint[])
      AND lot.shard = standing.shard
      AND lot.id = standing.in_use_lot_id
)
UPDATE ledger_standing
SET in_use_lot_id = NULL, in_use_out_microtokens = NULL, in_use_granted_microtokens = NULL,
    in_use_price_micros = NULL, in_use_from_at = NULL, in_use_until_at = NULL, mark = 0
WHERE shard = %(shard)s AND account_id = ANY (%(account_ids)s::bigint[]) AND in_use_lot_id IS NOT NULL
