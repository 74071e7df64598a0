-- Entries of runs: slices of those that crossed lots, and what corrections moved, as written.
--
-- locks       none
-- parameters  shard int, account_ids bigint[], run_keys uuid[]
-- row         account_id bigint, run_key uuid, part bigint, kind text, lot_id, microtokens bigint
SELECT entry.account_id, entry.run_key, entry.part, entry.kind, entry.lot_id, entry.microtokens
FROM unnest(%(account_ids)s::bigint[], %(run_keys)s::uuid[]) AS asked (account_id, run_key)
JOIN ledger_entry AS entry
    ON entry.shard = %(shard)s AND entry.account_id = asked.account_id
   AND entry.run_key = asked.run_key
ORDER BY entry.id
