-- Lock one account before holds on it change; waits for whoever has it.
--
-- locks       takes the account's row, as the debit does; its key may still be referred to
-- parameters  shard int, account_id bigint
-- row         id bigint, held_microtokens bigint, limits_count int
SELECT account_id AS id, held_microtokens, limits_count
FROM ledger_standing
WHERE shard = %(shard)s AND account_id = %(account_id)s
FOR NO KEY UPDATE
