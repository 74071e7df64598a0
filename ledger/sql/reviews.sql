-- Reviews of soft limits: which limit, who reached it with which hold, and how many holds wait now.
--
-- locks       none
-- parameters  shards int[], account_ids bigint[], review_id bigint (null: those not answered yet)
-- row         the columns of ledger.reviews.Review
SELECT review.id, review.account_id, review.limit_id, cap.scope, review.scope_value, cap.period, cap.unit,
       cap.cap, review.period_start, review.opened_at, asking.run_id AS run, asking.workflow,
       asking.project, asking.job, asking.cost_centre, asking.department, asking.actor, review.used,
       review.held, review.asked, waiting.waiting_count, waiting.waiting_microtokens, review.answered_at,
       review.is_allowed, review.reason, review.until_at
FROM ledger_limitreview AS review
JOIN ledger_limit AS cap ON cap.shard = review.shard AND cap.id = review.limit_id
JOIN ledger_hold AS asking
    ON asking.shard = review.shard AND asking.account_id = review.account_id
   AND asking.run_key = review.run_key
CROSS JOIN LATERAL (
    SELECT count(*) AS waiting_count, coalesce(sum(microtokens), 0)::bigint AS waiting_microtokens
    FROM ledger_hold AS hold
    WHERE hold.shard = review.shard AND hold.review_id = review.id
      AND hold.held_at IS NULL AND hold.refused_at IS NULL
      AND hold.released_at IS NULL AND hold.captured_at IS NULL
) AS waiting
WHERE review.shard = ANY (%(shards)s) AND review.account_id = ANY (%(account_ids)s)
  AND CASE WHEN %(review_id)s::bigint IS NULL THEN review.answered_at IS NULL
           ELSE review.id = %(review_id)s END
ORDER BY review.opened_at, review.id
