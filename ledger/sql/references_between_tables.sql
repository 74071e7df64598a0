-- Which of the ledger's tables refers to which.
--
-- locks       none
-- parameters  none
-- row         table text, referred text
SELECT DISTINCT mine.relname::text, theirs.relname::text
FROM pg_constraint
JOIN pg_class AS mine ON mine.oid = conrelid
JOIN pg_class AS theirs ON theirs.oid = confrelid
WHERE contype = 'f' AND mine.relname LIKE 'ledger\_%%'
  AND mine.relnamespace = current_schema::regnamespace
ORDER BY 1, 2
