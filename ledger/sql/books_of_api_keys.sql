-- The books that API keys open; a key that is unknown or revoked has no row.
--
-- locks       none
-- parameters  digests bytea[]
-- row         digest bytea, book_id bigint
SELECT digest, book_id FROM ledger_apikey WHERE digest = ANY(%(digests)s::bytea[]) AND revoked_at IS NULL
