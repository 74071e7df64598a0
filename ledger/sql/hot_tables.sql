-- The ledger's tables that have a shard.
--
-- locks       none
-- parameters  none
-- row         table text
SELECT relname::text
FROM pg_class
JOIN pg_attribute ON attrelid = pg_class.oid
WHERE relkind = 'r' AND attname = 'shard' AND NOT attisdropped AND relname LIKE 'ledger\_%%'
  AND relnamespace = current_schema::regnamespace
ORDER BY relname
