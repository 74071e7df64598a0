-- Holds under their runs' keys.
--
-- locks       the accounts (hold_accounts.sql) in an earlier statement, to change them; none to read
-- parameters  account_ids bigint[], run_keys uuid[]
-- row         the columns of ledger.held.HoldNow
SELECT hold.account_id, hold.run_key, hold.run_id, hold.body_digest, hold.microtokens, hold.micros,
       hold.workflow, hold.project, hold.job, hold.cost_centre, hold.department, hold.actor,
       hold.life_seconds, hold.asked_at, hold.held_at, hold.expires_at, hold.claimed_at,
       hold.captured_at, hold.released_at, hold.lapsed_at, hold.refused_at, hold.refusal,
       hold.review_id, hold.limit_ids, hold.counted_microtokens, hold.counted_micros, hold.due_at
FROM unnest(%(account_ids)s::bigint[], %(run_keys)s::uuid[]) AS asked (account_id, run_key)
JOIN ledger_hold AS hold
    ON hold.shard = (asked.account_id & 255)::smallint AND hold.account_id = asked.account_id
   AND hold.run_key = asked.run_key
