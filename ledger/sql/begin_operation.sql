-- An account, and what stands under a key of it if an operation was done under that.
--
-- locks       the shard (lock_shard.sql), in an earlier statement
-- parameters  shard int, account_id bigint, key text
-- row         code, currency text, debt_lot_id bigint; kind text, digest uuid, lot_id bigint (null: none)
SELECT account.code, account.currency, account.debt_lot_id, operation.kind, operation.digest,
       operation.lot_id
FROM ledger_account AS account
LEFT JOIN ledger_operation AS operation
    ON operation.shard = account.shard AND operation.account_id = account.id
    AND operation.key = %(key)s
WHERE account.shard = %(shard)s AND account.id = %(account_id)s
