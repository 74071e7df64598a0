-- Become the only one who folds a shard's usage until the transaction ends; no row: another does.
--
-- Debits go on meanwhile: they do not touch this row.
--
-- locks       none
-- parameters  shard int
-- row         folded_number bigint
SELECT folded_number FROM ledger_usagefold WHERE shard = %(shard)s FOR UPDATE SKIP LOCKED
