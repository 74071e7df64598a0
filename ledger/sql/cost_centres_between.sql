-- What an account's runs used that occurred between two instants, to the instant, by cost centre:
-- with what corrections gave back or charged, at each run's own time.
--
-- Reads every run of the account: for the edges of a window that are no whole hours.
--
-- locks       none
-- parameters  shard int, account_id bigint; from_at, until_at timestamptz[], the windows' edges
-- row         cost_centre text, microtokens bigint
WITH run AS (
    SELECT run.run_key, run.part, run.microtokens, attribution.cost_centre
    FROM ledger_run AS run
    JOIN ledger_attribution AS attribution
        ON attribution.shard = run.shard AND attribution.account_id = run.account_id
       AND attribution.key = run.attribution_key
    WHERE run.shard = %(shard)s AND run.account_id = %(account_id)s
      AND EXISTS (
          SELECT FROM unnest(%(from_at)s::timestamptz[], %(until_at)s::timestamptz[])
              AS stretch (from_at, until_at)
          WHERE run.occurred_at >= stretch.from_at AND run.occurred_at < stretch.until_at
      )
)
SELECT cost_centre, sum(microtokens)::bigint AS microtokens
FROM (
    SELECT cost_centre, microtokens FROM run
    UNION ALL
    SELECT run.cost_centre, (change ->> 1)::bigint
    FROM run
    JOIN ledger_correction AS correction
        ON correction.shard = %(shard)s AND correction.account_id = %(account_id)s
       AND correction.run_key = run.run_key
    CROSS JOIN LATERAL jsonb_array_elements(
        coalesce(convert_from(correction.details, 'UTF8')::jsonb -> 'changes', '[]')
    ) AS change
    WHERE (change ->> 0)::bigint = run.part
) AS used
GROUP BY cost_centre
