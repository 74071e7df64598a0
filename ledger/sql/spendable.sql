-- What accounts could spend on a run that occurs now: prepaid lots, and overage up to its cap; and
-- whether the time of one of their holds has come.
--
-- locks       the accounts (hold_accounts.sql), in an earlier statement; none to read only
-- parameters  shards bigint[], account_ids bigint[], at timestamptz
-- row         account_id bigint, spendable_microtokens numeric, has_due boolean
SELECT standing.account_id,
       (SELECT coalesce(sum(lot.granted_microtokens::numeric
                            - CASE WHEN lot.id = standing.in_use_lot_id
                                   THEN standing.in_use_out_microtokens
                                   ELSE lot.out_microtokens END), 0)
        FROM ledger_lot AS lot
        WHERE lot.shard = standing.shard AND lot.account_id = standing.account_id AND lot.open
          AND lot.kind <> 'debt' AND lot.effective_at <= %(at)s
          AND (lot.expires_at IS NULL OR lot.expires_at > %(at)s)) AS spendable_microtokens,
       EXISTS (SELECT FROM ledger_hold AS hold
               WHERE hold.shard = standing.shard AND hold.account_id = standing.account_id
                 AND hold.due_at <= %(at)s) AS has_due
FROM ledger_standing AS standing
WHERE standing.shard = ANY (%(shards)s) AND standing.account_id = ANY (%(account_ids)s)
