-- Write new holds, those that wait for a review too, and count them on their accounts.
--
-- locks       the accounts (hold_accounts.sql), in an earlier statement
-- parameters  at timestamptz; for each hold: account_ids bigint[], run_keys uuid[], run_ids text[],
--             body_digests, microtokens, micros bigint[], workflows, projects, jobs, cost_centres,
--             departments, actors text[], life_seconds int[], expires_at timestamptz[] (null: it waits),
--             due_at timestamptz[], review_ids bigint[], limit_ids text[] (each an array)
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
    FROM unnest(
        %(account_ids)s::bigint[], %(run_keys)s::uuid[], %(run_ids)s::text[],
        %(body_digests)s::bigint[], %(microtokens)s::bigint[], %(micros)s::bigint[],
        %(workflows)s::text[], %(projects)s::text[], %(jobs)s::text[], %(cost_centres)s::text[],
        %(departments)s::text[], %(actors)s::text[], %(life_seconds)s::integer[],
        %(expires_at)s::timestamptz[], %(due_at)s::timestamptz[], %(review_ids)s::bigint[],
        %(limit_ids)s::text[]
    ) AS hold (
        account_id, run_key, run_id, body_digest, microtokens, micros, workflow, project, job,
        cost_centre, department, actor, life_seconds, expires_at, due_at, review_id, limit_ids
    )
    RETURNING shard, account_id, counted_microtokens
)
UPDATE ledger_account AS account
SET held_microtokens = account.held_microtokens + sums.microtokens,
    open_holds_count = account.open_holds_count + sums.holds_count
FROM (
    SELECT shard, account_id, sum(counted_microtokens)::bigint AS microtokens, count(*) AS holds_count
    FROM new GROUP BY shard, account_id
) AS sums
WHERE account.shard = sums.shard AND account.id = sums.account_id
