-- The accounts that these codes name in a book, wherever each of them may be.
--
-- locks       none
-- parameters  book_id bigint; shards int[], codes text[]: the pairs to look at
-- row         the columns of ledger.accounts.AccountFacts
SELECT id, shard, book_id, code, name, rate_card_id, default_cost_centre
FROM unnest(%(shards)s::smallint[], %(codes)s::text[]) AS place (shard, code)
JOIN ledger_account AS account USING (shard, code)
WHERE account.book_id = %(book_id)s
