-- Lock accounts before holds on them are decided. Those that somebody else has locked are passed by:
-- whoever waits for one must hold no other, as debits take them in an order of their own.
--
-- locks       takes the accounts' rows, as the debit does; keys may still be referred to
-- parameters  shards bigint[], account_ids bigint[]
-- row         id bigint, held_microtokens bigint, limits_count int, is_overdue boolean
SELECT account_id AS id, held_microtokens, limits_count, overdue_since IS NOT NULL AS is_overdue
FROM ledger_standing
WHERE shard = ANY (%(shards)s) AND account_id = ANY (%(account_ids)s)
FOR NO KEY UPDATE SKIP LOCKED
