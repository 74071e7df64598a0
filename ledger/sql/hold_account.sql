-- Lock one account before holds on it change; waits for whoever has it.
--
-- locks       takes the account's row, as the debit does; its key may still be referred to
-- parameters  shards bigint[], account_ids bigint[]: of one
-- row         id bigint, held_microtokens bigint, limits_count int
SELECT account_id AS id, held_microtokens, limits_count
FROM ledger_standing
WHERE shard = ANY (%(shards)s) AND account_id = ANY (%(account_ids)s)
FOR NO KEY UPDATE
