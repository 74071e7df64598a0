-- Write one entry that is not a run's debit.
--
-- locks       the shard (lock_shard.sql), in an earlier statement
-- parameters  shard int, account_id bigint, lot_id bigint, kind text, out_before_microtokens bigint,
--             microtokens bigint, operation_key text, occurred_at timestamptz
INSERT INTO ledger_entry (
    shard, account_id, lot_id, kind, out_before_microtokens, microtokens, operation_key, occurred_at
)
VALUES (
    %(shard)s, %(account_id)s, %(lot_id)s, %(kind)s, %(out_before_microtokens)s, %(microtokens)s,
    %(operation_key)s, %(occurred_at)s
)
