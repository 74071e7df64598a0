-- How often the prices and names of books have changed.
--
-- locks       none
-- parameters  book_ids bigint[]
-- row         id, revision  bigint
SELECT id, revision FROM ledger_book WHERE id = ANY(%(book_ids)s)
