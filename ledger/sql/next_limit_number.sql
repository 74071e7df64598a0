-- The next number of a limit or a review.
--
-- locks       none
-- parameters  none
-- row         number bigint
SELECT nextval('ledger_limit_number') AS number
