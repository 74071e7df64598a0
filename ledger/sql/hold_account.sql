-- Lock one account before holds on it change; waits for whoever has it.
--
-- locks       takes the account's row, as the debit does; its key may still be referred to
-- parameters  shards bigint[], account_ids bigint[]: of one
-- row         id bigint, held_microtokens bigint, limits_count int, is_overdue boolean
SELECT account_id AS id, held_microtokens, limits_count, overdue_since IS NOT NULL AS is_overdue
FROM ledger_standing
WHERE shard = ANY (%(shards)s) AND account_id = ANY (%(account_ids)s)
FOR NO KEY UPDATE
