-- Entries of runs: slices of those that crossed lots, and what corrections moved, as written.
--
-- locks       none
-- parameters  shard int, account_ids bigint[], run_keys uuid[]
-- row         account_id bigint, run_key uuid, part bigint, kind text, lot_id, microtokens bigint
SELECT entry.account_id, entry.run_key, entry.part, entry.kind, entry.lot_id, entry.microtokens
FROM unnest(%(account_ids)s::bigint[], %(run_keys)s::uuid[]) AS asked (account_id, run_key)
CROSS JOIN LATERAL (
    SELECT * FROM ledger_entry
    WHERE shard = %(shard)s AND account_id = asked.account_id AND run_key = asked.run_key
    OFFSET 0  -- row by row, by the key, whatever the table seems to be
) AS entry
ORDER BY entry.id
