-- The slices of an account's runs that drew on several lots, in order of draw-down.
--
-- locks       none
-- parameters  shard int, account_id bigint, run_keys uuid[]
-- row         run_key uuid, part bigint, lot_id, out_before_microtokens, microtokens bigint
SELECT run_key, part, lot_id, out_before_microtokens, microtokens
FROM ledger_entry
WHERE shard = %(shard)s AND account_id = %(account_id)s AND run_key = ANY (%(run_keys)s)
  AND kind = 'debit'
ORDER BY id
