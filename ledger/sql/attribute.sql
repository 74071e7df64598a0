-- Write down who runs are for. What is known already is left alone: the key says it all.
--
-- locks       none; rows in order of their key, so that two writers never wait for each other in a circle
-- parameters  account_ids bigint[], keys uuid[], workflows, projects, jobs, cost_centres, departments, actors text[]
INSERT INTO ledger_attribution (
    shard, account_id, key, workflow, project, job, cost_centre, department, actor
)
SELECT (new.account_id & 255)::smallint, new.*
FROM unnest(
    %(account_ids)s::bigint[], %(keys)s::uuid[], %(workflows)s::text[], %(projects)s::text[],
    %(jobs)s::text[], %(cost_centres)s::text[], %(departments)s::text[], %(actors)s::text[]
) AS new (account_id, key, workflow, project, job, cost_centre, department, actor)
ORDER BY new.account_id, new.key
ON CONFLICT (shard, account_id, key) DO NOTHING
