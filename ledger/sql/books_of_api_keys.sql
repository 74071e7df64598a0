-- The books that API keys open, and how often their prices and names have changed; a key that is
-- unknown or revoked has no row.
--
-- What the transaction asks after it finds its rows by keys, however small a table is now: such
-- statements are prepared, and a plan for a small table would last until the next ANALYZE.
--
-- locks       none
-- parameters  digests bytea[]
-- row         digest bytea, book_id, revision bigint, and what was set
SELECT api_key.digest, api_key.book_id, book.revision, set_config('enable_hashjoin', 'off', true),
       set_config('enable_mergejoin', 'off', true), set_config('enable_seqscan', 'off', true)
FROM ledger_apikey AS api_key
JOIN ledger_book AS book ON book.id = api_key.book_id
WHERE api_key.digest = ANY (%(digests)s::bytea[]) AND api_key.revoked_at IS NULL
