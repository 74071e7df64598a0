-- Become the only writer of a shard, as lock_shard.sql, to debit a block.
--
-- A block touches rows by their keys, a handful or ten thousand: the planner would read whole
-- tables to look up a tenth of them, at several times the cost of the keys. And its statements are
-- prepared, perhaps while a table is empty: no plan of theirs is for a small table.
--
-- locks       advisory lock (0x4C454447 "LEDG", shard), until the transaction ends
-- parameters  shard int
SELECT set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
       set_config('enable_seqscan', 'off', true),
       pg_advisory_xact_lock(1279607879, %(shard)s)
