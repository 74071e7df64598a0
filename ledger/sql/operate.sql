-- Write down that an operation was done.
--
-- locks       the shard (lock_shard.sql), in an earlier statement
-- parameters  shard int, account_id bigint, key, kind text, digest uuid, lot_id bigint,
--             occurred_at timestamptz
INSERT INTO ledger_operation (shard, account_id, key, kind, digest, lot_id, occurred_at)
VALUES (
    %(shard)s, %(account_id)s, %(key)s, %(kind)s, %(digest)s, %(lot_id)s, %(occurred_at)s
)
