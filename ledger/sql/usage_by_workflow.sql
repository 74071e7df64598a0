-- What an account's runs of an interval cost, by workflow, the dearest first.
--
-- locks       none
-- parameters  shard int, account_id bigint, from_at timestamptz, until_at timestamptz
-- row         workflow text, runs_count bigint, microtokens bigint
SELECT attribution.workflow, sum(used.runs_count)::bigint AS runs_count,
       sum(used.microtokens)::bigint AS microtokens
FROM (
    SELECT attribution_key, count(*) AS runs_count, sum(microtokens) AS microtokens
    FROM ledger_run
    WHERE shard = %(shard)s AND account_id = %(account_id)s
      AND occurred_at >= %(from_at)s AND occurred_at < %(until_at)s
    GROUP BY attribution_key
) AS used
JOIN ledger_attribution AS attribution
    ON attribution.shard = %(shard)s AND attribution.account_id = %(account_id)s
   AND attribution.key = used.attribution_key
GROUP BY attribution.workflow
ORDER BY 3 DESC, 1
