-- The books that API keys open, and how often their prices and names have changed; a key that is
-- unknown or revoked has no row.
--
-- locks       none
-- parameters  digests bytea[]
-- row         digest bytea, book_id, revision bigint
SELECT api_key.digest, api_key.book_id, book.revision
FROM ledger_apikey AS api_key
JOIN ledger_book AS book ON book.id = api_key.book_id
WHERE api_key.digest = ANY (%(digests)s::bytea[]) AND api_key.revoked_at IS NULL
