-- Write new holds, those that wait for a review too, and count them on their accounts.
--
-- locks       the accounts (hold_accounts.sql), in an earlier statement
-- parameters  at timestamptz, holds json: for each its account_id, run_key, run_id, body_digest,
--             microtokens, micros, workflow, project, job, cost_centre, department, actor,
--             life_seconds, expires_at (null: it waits), due_at, review_id, limit_ids (an array's text)
WITH new AS (
    INSERT INTO ledger_hold (
        shard, account_id, run_key, run_id, body_digest, microtokens, micros, workflow, project, job,
        cost_centre, department, actor, life_seconds, asked_at, held_at, expires_at, refusal,
        review_id, limit_ids, counted_microtokens, counted_micros, due_at
    )
    SELECT (account_id & 255)::smallint, account_id, run_key, run_id, body_digest, microtokens, micros,
           workflow, project, job, cost_centre, department, actor, life_seconds, %(at)s,
           CASE WHEN expires_at IS NOT NULL THEN %(at)s::timestamptz END, expires_at, '',
           review_id, limit_ids::bigint[],
           CASE WHEN expires_at IS NULL THEN 0 ELSE microtokens END,
           CASE WHEN expires_at IS NULL THEN 0 ELSE micros END, due_at
    FROM json_to_recordset(%(holds)s::json) AS hold (
        account_id bigint, run_key uuid, run_id text, body_digest bigint, microtokens bigint,
        micros bigint, workflow text, project text, job text, cost_centre text, department text,
        actor text, life_seconds integer, expires_at timestamptz, due_at timestamptz,
        review_id bigint, limit_ids text
    )
    RETURNING shard, account_id, counted_microtokens
)
UPDATE ledger_standing AS standing
SET held_microtokens = standing.held_microtokens + sums.microtokens,
    open_holds_count = standing.open_holds_count + sums.holds_count
FROM (
    SELECT shard, account_id, sum(counted_microtokens)::bigint AS microtokens, count(*) AS holds_count
    FROM new GROUP BY shard, account_id
) AS sums
WHERE standing.shard = sums.shard AND standing.account_id = sums.account_id
