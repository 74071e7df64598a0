-- Corrections of runs, by the runs' keys, version after version.
--
-- locks       none
-- parameters  account_ids bigint[], run_keys uuid[]
-- row         the columns of ledger.history.CorrectionRow
SELECT correction.account_id, correction.run_key, correction.version, correction.kind,
       correction.recorded_at, correction.microtokens, correction.micros, correction.details
FROM unnest(%(account_ids)s::bigint[], %(run_keys)s::uuid[]) AS asked (account_id, run_key)
JOIN ledger_correction AS correction
    ON correction.shard = (asked.account_id & 255)::smallint
   AND correction.account_id = asked.account_id AND correction.run_key = asked.run_key
ORDER BY correction.account_id, correction.run_key, correction.version
