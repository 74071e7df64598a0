-- What all runs of accounts used, by time: from the accounts' own rungs.
--
-- locks       none
-- parameters  shards int[], account_ids bigint[]; grouped_by text[] ('account', or nothing); the
--             stretches: rungs int[], from_at, until_at, labels timestamptz[] (null: each row's own
--             begin); what is not folded: new_account_ids bigint[], new_begins_at timestamptz[];
--             new_runs_count, new_accepted_first_count, new_failed_count, new_retakes_count,
--             new_microtokens, new_micros, new_rework_microtokens, new_rework_micros bigint[]
-- row         the columns of ledger.usage.UsageLine
SELECT CASE WHEN 'account' = ANY (%(grouped_by)s) THEN used.account_id END AS account_id,
       used.begins_at, NULL AS workflow, NULL AS project, NULL AS job, NULL AS cost_centre,
       NULL AS department, NULL AS actor, NULL AS engine,
       sum(used.runs_count)::bigint AS runs_count,
       sum(used.accepted_first_count)::bigint AS accepted_first_count,
       sum(used.failed_count)::bigint AS failed_count,
       sum(used.retakes_count)::bigint AS retakes_count,
       sum(used.microtokens)::bigint AS microtokens,
       sum(used.micros)::bigint AS micros,
       sum(used.rework_microtokens)::bigint AS rework_microtokens,
       sum(used.rework_micros)::bigint AS rework_micros
FROM (
    SELECT usage.account_id, coalesce(stretch.label, usage.begins_at) AS begins_at,
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
    UNION ALL
    SELECT *
    FROM unnest(
        %(new_account_ids)s::bigint[], %(new_begins_at)s::timestamptz[],
        %(new_runs_count)s::bigint[], %(new_accepted_first_count)s::bigint[],
        %(new_failed_count)s::bigint[], %(new_retakes_count)s::bigint[],
        %(new_microtokens)s::bigint[], %(new_micros)s::bigint[],
        %(new_rework_microtokens)s::bigint[], %(new_rework_micros)s::bigint[]
    ) AS unfolded
) AS used
GROUP BY 1, 2
ORDER BY used.begins_at, microtokens DESC, 1
