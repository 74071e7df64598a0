-- Settle the holds of runs that are being debited: a whole run, or the last part of one, captures
-- its hold; another part takes what it cost out of it.
--
-- locks       the shard (lock_shard.sql), and the accounts by their debit, in earlier statements
-- parameters  shard int, at timestamptz; for each run once: account_ids bigint[], run_keys uuid[],
--             microtokens, micros bigint[] (its cost in this block), are_ended boolean[]
-- row         account_id bigint, microtokens, micros bigint (what counts no more), held_at timestamptz,
--             limit_ids bigint[], workflow, project, job, cost_centre, actor text
WITH settled AS (
    SELECT hold.shard, hold.account_id, hold.run_key, hold.held_at, hold.limit_ids,
           hold.workflow, hold.project, hold.job, hold.cost_centre, hold.actor, run.is_ended,
           CASE WHEN run.is_ended THEN hold.counted_microtokens
                ELSE least(hold.counted_microtokens, run.microtokens) END AS microtokens,
           CASE WHEN run.is_ended THEN hold.counted_micros
                ELSE least(hold.counted_micros, greatest(run.micros, 0)) END AS micros
    FROM unnest(
        %(account_ids)s::bigint[], %(run_keys)s::uuid[], %(microtokens)s::bigint[],
        %(micros)s::bigint[], %(are_ended)s::boolean[]
    ) AS run (account_id, run_key, microtokens, micros, is_ended)
    JOIN ledger_hold AS hold
        ON hold.shard = %(shard)s AND hold.account_id = run.account_id
       AND hold.run_key = run.run_key AND hold.due_at IS NOT NULL
),
changed AS (
    UPDATE ledger_hold AS hold
    SET captured_at = CASE WHEN settled.is_ended THEN %(at)s::timestamptz END,
        counted_microtokens = hold.counted_microtokens - settled.microtokens,
        counted_micros = hold.counted_micros - settled.micros,
        due_at = CASE WHEN NOT settled.is_ended THEN hold.due_at END
    FROM settled
    WHERE hold.shard = settled.shard AND hold.account_id = settled.account_id
      AND hold.run_key = settled.run_key
),
counted AS (
    UPDATE ledger_standing AS standing
    SET held_microtokens = standing.held_microtokens - sums.microtokens,
        open_holds_count = standing.open_holds_count - sums.ended_count
    FROM (
        SELECT shard, account_id, sum(microtokens)::bigint AS microtokens,
               count(*) FILTER (WHERE is_ended) AS ended_count
        FROM settled GROUP BY shard, account_id
    ) AS sums
    WHERE standing.shard = sums.shard AND standing.account_id = sums.account_id
)
SELECT account_id, microtokens, micros, held_at, limit_ids, workflow, project, job, cost_centre, actor
FROM settled
WHERE held_at IS NOT NULL
