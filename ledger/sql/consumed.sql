-- Microtokens that runs took from lots (not what expired, rolled over, repaid a debt or was reversed).
--
-- locks       none
-- parameters  shards int[], account_ids bigint[], lot_ids bigint[]
-- row         lot_id bigint, microtokens bigint
SELECT lot.id AS lot_id,
       (lot.out_microtokens - coalesce((
           SELECT sum(CASE WHEN kind IN ('repaid', 'thaw', 'restore', 'forgive') THEN -microtokens
                           ELSE microtokens END)
           FROM ledger_entry AS entry
           WHERE entry.shard = lot.shard AND entry.lot_id = lot.id
             AND entry.kind IN ('expire', 'roll_over', 'repay', 'repaid', 'freeze', 'thaw', 'revoke',
                                'restore', 'owe', 'forgive')
       ), 0))::bigint AS microtokens
FROM ledger_lot_now AS lot
WHERE lot.shard = ANY (%(shards)s) AND lot.account_id = ANY (%(account_ids)s)
  AND lot.id = ANY (%(lot_ids)s)
