-- Make this transaction the only writer of a shard: debits, grants and expiries of one shard
-- follow one another, so none of them sees half of another.
--
-- A statement of its own, before anything is read: under READ COMMITTED a statement sees the
-- rows as of its own start, and a lock taken in the middle of it would come too late.
--
-- locks       advisory lock (0x4C454447 "LEDG", shard), until the transaction ends
-- parameters  shard int
SELECT pg_advisory_xact_lock(1279607879, %(shard)s)
