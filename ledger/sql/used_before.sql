-- What an account's runs of a time used, by who they were for, in quarters of an hour: every time
-- zone's days begin with one.
--
-- locks       the shard (lock_shard.sql), in an earlier statement
-- parameters  shard int, account_id bigint, from_at timestamptz, until_at timestamptz (null: no end)
-- row         workflow, project, job, cost_centre, actor text, occurred_at timestamptz (about),
--             microtokens, micros bigint
SELECT who.workflow, who.project, who.job, who.cost_centre, who.actor,
       greatest(date_bin('15 minutes', run.occurred_at, '2000-01-01Z'), %(from_at)s) AS occurred_at,
       sum(run.microtokens)::bigint AS microtokens, sum(run.micros)::bigint AS micros
FROM ledger_run AS run
JOIN ledger_attribution AS who
    ON who.shard = run.shard AND who.account_id = run.account_id AND who.key = run.attribution_key
WHERE run.shard = %(shard)s AND run.account_id = %(account_id)s
  AND run.occurred_at >= %(from_at)s
  AND (%(until_at)s::timestamptz IS NULL OR run.occurred_at < %(until_at)s)
GROUP BY who.workflow, who.project, who.job, who.cost_centre, who.actor, 6
