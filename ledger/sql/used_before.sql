-- What an account's runs of a stretch of blocks used, by who they were for and after which of some
-- instants they occurred. What occurred after the last of them is told apart by the quarter of an
-- hour: every time zone's days begin with one.
--
-- locks       none; the shard (lock_shard.sql), in an earlier statement, for the last stretch
-- parameters  shard int, account_id bigint, instants timestamptz[] (in order; what occurred before the
--             first is left out), after_number, until_number bigint (the stretch: after the one, up to
--             the other), run_keys uuid[] (of all runs in it; null: every run of the account is read)
-- row         the columns of ledger.past_use.Used
SELECT who.workflow, who.project, who.job, who.cost_centre, who.actor,
       used.occurred_at, used.microtokens, used.micros
FROM (
    SELECT attribution_key, greatest(
               (%(instants)s::timestamptz[])[width_bucket(occurred_at, %(instants)s::timestamptz[])],
               CASE WHEN occurred_at >= (%(instants)s::timestamptz[])[cardinality(%(instants)s)]
                    THEN date_bin('15 minutes', occurred_at, '2000-01-01Z') END
           ) AS occurred_at,
           sum(microtokens)::bigint AS microtokens, sum(micros)::bigint AS micros
    FROM ledger_run
    WHERE shard = %(shard)s AND account_id = %(account_id)s
      AND occurred_at >= (%(instants)s::timestamptz[])[1]
      AND block_number > %(after_number)s AND block_number <= %(until_number)s
      AND (%(run_keys)s::uuid[] IS NULL OR run_key = ANY (%(run_keys)s::uuid[]))
    GROUP BY 1, 2
) AS used
JOIN ledger_attribution AS who
    ON who.shard = %(shard)s AND who.account_id = %(account_id)s AND who.key = used.attribution_key
