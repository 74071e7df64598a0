-- Why runs wait for a price, how many, and since when; those first that have waited longest.
--
-- locks       none
-- parameters  book_ids bigint[] (null: all), account_ids bigint[] (null: all, not told apart)
-- row         the columns of ledger.parking.Wait
SELECT account.book_id,
       CASE WHEN %(account_ids)s::bigint[] IS NOT NULL THEN parked.account_id END AS account_id,
       account.rate_card_id, card.name AS rate_card, parked.reason, count(DISTINCT parked.run_key) AS runs_count,
       min(parked.parked_at) AS since, min(parked.occurred_at) AS earliest_at
FROM ledger_parkedrun AS parked
JOIN ledger_account AS account
    ON account.shard = parked.shard AND account.id = parked.account_id
JOIN ledger_ratecard AS card ON card.id = account.rate_card_id
WHERE parked.priced_at IS NULL
  AND (%(book_ids)s::bigint[] IS NULL OR account.book_id = ANY (%(book_ids)s::bigint[]))
  AND (%(account_ids)s::bigint[] IS NULL OR parked.account_id = ANY (%(account_ids)s::bigint[]))
GROUP BY account.book_id, 2, account.rate_card_id, card.name, parked.reason
ORDER BY since, runs_count DESC
