-- Parked runs whose book's prices or names have changed since they were last tried, oldest first.
--
-- locks       none
-- parameters  parked_max int
-- row         shard int, batch_id uuid, position int, book_id bigint, revision bigint, body bytea
SELECT parked.shard, parked.batch_id, parked.position, account.book_id, book.revision, parked.body
FROM ledger_parkedrun AS parked
JOIN ledger_account AS account
    ON account.shard = parked.shard AND account.id = parked.account_id
JOIN ledger_book AS book ON book.id = account.book_id
WHERE parked.priced_at IS NULL AND parked.tried_revision < book.revision
ORDER BY parked.parked_at, parked.batch_id, parked.position
LIMIT %(parked_max)s
