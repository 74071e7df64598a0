-- The accounts that these codes name in a book.
--
-- locks       none
-- parameters  shards int[] (of the codes), book_id bigint, codes text[]
-- row         the columns of ledger.accounts.AccountFacts
SELECT id, shard, book_id, code, name, rate_card_id, default_cost_centre
FROM ledger_account
WHERE shard = ANY (%(shards)s) AND book_id = %(book_id)s AND code = ANY (%(codes)s)
