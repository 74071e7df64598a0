-- Corrections of runs, by the runs' keys, version after version.
--
-- locks       none
-- parameters  account_ids bigint[], run_keys uuid[]
-- row         the columns of ledger.history.CorrectionRow
SELECT correction.*
FROM unnest(%(account_ids)s::bigint[], %(run_keys)s::uuid[]) AS asked (account_id, run_key)
CROSS JOIN LATERAL (
    SELECT account_id, run_key, version, kind, recorded_at, microtokens, micros, details
    FROM ledger_correction
    WHERE shard = (asked.account_id & 255)::smallint AND account_id = asked.account_id
      AND run_key = asked.run_key
    OFFSET 0  -- row by row, by the key: a plan for a table that seems small costs seconds
) AS correction
ORDER BY correction.account_id, correction.run_key, correction.version
