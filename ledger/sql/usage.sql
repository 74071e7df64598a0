-- What runs used, by any of who they were for, engine and time.
--
-- Stretches of time are read on the rung that fits them best; what is not folded yet comes with
-- the parameters. An attribution is replaced by the number of its asked-for names before anything
-- is added up: there are many rows, and few such numbers. (The same names have the same key in
-- every account: it is a digest of them.)
--
-- locks       none
-- parameters  shards int[], account_ids bigint[]; grouped_by text[] (names of columns of the row);
--             workflows, projects, jobs, cost_centres, departments, actors, engines text[] (which
--             of them; null: all), is_narrow boolean (whether that leaves out attributions); the
--             stretches: rungs int[], from_at, until_at, labels timestamptz[] (null: each row's own
--             begin); what is not folded: new_account_ids bigint[], new_begins_at timestamptz[],
--             new_attribution_keys uuid[], new_engine_ids bigint[]; new_runs_count,
--             new_accepted_first_count, new_failed_count, new_retakes_count, new_microtokens,
--             new_micros, new_rework_microtokens, new_rework_micros bigint[]
-- row         the columns of ledger.usage.UsageLine
WITH line AS MATERIALIZED (
    SELECT DISTINCT key,
           CASE WHEN 'workflow' = ANY (%(grouped_by)s) THEN workflow END AS workflow,
           CASE WHEN 'project' = ANY (%(grouped_by)s) THEN project END AS project,
           CASE WHEN 'job' = ANY (%(grouped_by)s) THEN job END AS job,
           CASE WHEN 'cost_centre' = ANY (%(grouped_by)s) THEN cost_centre END AS cost_centre,
           CASE WHEN 'department' = ANY (%(grouped_by)s) THEN department END AS department,
           CASE WHEN 'actor' = ANY (%(grouped_by)s) THEN actor END AS actor
    FROM ledger_attribution
    WHERE shard = ANY (%(shards)s) AND account_id = ANY (%(account_ids)s)
      AND (%(workflows)s::text[] IS NULL OR workflow = ANY (%(workflows)s::text[]))
      AND (%(projects)s::text[] IS NULL OR project = ANY (%(projects)s::text[]))
      AND (%(jobs)s::text[] IS NULL OR job = ANY (%(jobs)s::text[]))
      AND (%(cost_centres)s::text[] IS NULL OR cost_centre = ANY (%(cost_centres)s::text[]))
      AND (%(departments)s::text[] IS NULL OR department = ANY (%(departments)s::text[]))
      AND (%(actors)s::text[] IS NULL OR actor = ANY (%(actors)s::text[]))
),
named AS MATERIALIZED (
    SELECT *, dense_rank() OVER (
        ORDER BY workflow, project, job, cost_centre, department, actor
    ) AS number
    FROM line
),
engine AS MATERIALIZED (
    SELECT id, code FROM ledger_engine
    UNION ALL
    SELECT 0, ''
),
used AS (
    SELECT usage.account_id, coalesce(stretch.label, usage.begins_at) AS begins_at,
           usage.attribution_key, usage.engine_id,
           usage.runs_count, usage.accepted_first_count, usage.failed_count, usage.retakes_count,
           usage.microtokens, usage.micros, usage.rework_microtokens, usage.rework_micros
    FROM unnest(
        %(rungs)s::int[], %(from_at)s::timestamptz[], %(until_at)s::timestamptz[],
        %(labels)s::timestamptz[]
    ) AS stretch (rung, from_at, until_at, label)
    JOIN ledger_usage AS usage
        ON usage.shard = ANY (%(shards)s) AND usage.account_id = ANY (%(account_ids)s)
       AND usage.rung = stretch.rung
       AND usage.begins_at >= stretch.from_at AND usage.begins_at < stretch.until_at
       -- Few of many: the index finds them.
       AND (NOT %(is_narrow)s OR usage.attribution_key = ANY (ARRAY(SELECT key FROM named)))
    UNION ALL
    SELECT *
    FROM unnest(
        %(new_account_ids)s::bigint[], %(new_begins_at)s::timestamptz[],
        %(new_attribution_keys)s::uuid[], %(new_engine_ids)s::bigint[],
        %(new_runs_count)s::bigint[], %(new_accepted_first_count)s::bigint[],
        %(new_failed_count)s::bigint[], %(new_retakes_count)s::bigint[],
        %(new_microtokens)s::bigint[], %(new_micros)s::bigint[],
        %(new_rework_microtokens)s::bigint[], %(new_rework_micros)s::bigint[]
    ) AS unfolded
),
summed AS (
    SELECT used.begins_at, named.number,
           CASE WHEN 'account' = ANY (%(grouped_by)s) THEN used.account_id END AS account_id,
           CASE WHEN 'engine' = ANY (%(grouped_by)s) THEN used.engine_id END AS engine_id,
           sum(used.runs_count)::bigint AS runs_count,
           sum(used.accepted_first_count)::bigint AS accepted_first_count,
           sum(used.failed_count)::bigint AS failed_count,
           sum(used.retakes_count)::bigint AS retakes_count,
           sum(used.microtokens)::bigint AS microtokens,
           sum(used.micros)::bigint AS micros,
           sum(used.rework_microtokens)::bigint AS rework_microtokens,
           sum(used.rework_micros)::bigint AS rework_micros
    FROM used
    JOIN named ON named.key = used.attribution_key
    WHERE %(engines)s::text[] IS NULL OR used.engine_id IN (
        SELECT id FROM engine WHERE code = ANY (%(engines)s::text[])
    )
    GROUP BY 1, 2, 3, 4
)
SELECT summed.account_id, summed.begins_at,
       names.workflow, names.project, names.job, names.cost_centre, names.department, names.actor,
       engine.code AS engine,
       summed.runs_count, summed.accepted_first_count, summed.failed_count, summed.retakes_count,
       summed.microtokens, summed.micros, summed.rework_microtokens, summed.rework_micros
FROM summed
JOIN (
    SELECT DISTINCT ON (number) * FROM named ORDER BY number
) AS names ON names.number = summed.number
LEFT JOIN engine ON engine.id = summed.engine_id
ORDER BY summed.begins_at, summed.microtokens DESC, summed.number, engine.code
