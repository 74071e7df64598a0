-- Write what is out of the lots in use back to the lots' own rows, and put those lots away.
--
-- After it, the rows of these accounts' lots are the whole truth; the next debit takes a lot
-- into use again.
--
-- locks       the shard (lock_shard.sql), in an earlier statement
-- parameters  shard int, account_ids bigint[]
WITH put_away AS (
    UPDATE ledger_lot AS lot
    SET out_microtokens = account.in_use_out_microtokens,
        open = account.in_use_out_microtokens < lot.granted_microtokens
    FROM ledger_account AS account
    WHERE account.shard = %(shard)s
      AND account.id = ANY (%(account_ids)s)
      AND lot.shard = account.shard
      AND lot.id = account.in_use_lot_id
)
UPDATE ledger_account
SET in_use_lot_id = NULL, in_use_out_microtokens = NULL, in_use_granted_microtokens = NULL,
    in_use_price_micros = NULL, in_use_from_at = NULL, in_use_until_at = NULL
WHERE shard = %(shard)s AND id = ANY (%(account_ids)s) AND in_use_lot_id IS NOT NULL
