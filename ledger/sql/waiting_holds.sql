-- Holds that wait for a review, in the order in which they were asked for.
--
-- locks       the account (hold_account.sql), in an earlier statement
-- parameters  shard int, review_id bigint
-- row         the columns of ledger.held.HoldNow
SELECT hold.account_id, hold.run_key, hold.run_id, hold.body_digest, hold.microtokens, hold.micros,
       hold.workflow, hold.project, hold.job, hold.cost_centre, hold.department, hold.actor,
       hold.life_seconds, hold.asked_at, hold.held_at, hold.expires_at, hold.claimed_at,
       hold.captured_at, hold.released_at, hold.lapsed_at, hold.refused_at, hold.refusal,
       hold.review_id, hold.limit_ids, hold.counted_microtokens, hold.counted_micros, hold.due_at
FROM ledger_hold AS hold
WHERE hold.shard = %(shard)s AND hold.review_id = %(review_id)s
  AND hold.held_at IS NULL AND hold.refused_at IS NULL
  AND hold.released_at IS NULL AND hold.captured_at IS NULL
ORDER BY hold.asked_at, hold.run_key
