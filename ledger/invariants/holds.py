"""Of holds and limits: what is cached of them, and what became of them."""

from typing import Final

# What a run or hold counts for on a limit: its value in the limit's scope, and the period's start.
_VALUE: Final = """
    CASE cap.scope WHEN 'actor' THEN who.actor WHEN 'workflow' THEN who.workflow
        WHEN 'project' THEN who.project WHEN 'job' THEN who.job
        WHEN 'cost_centre' THEN who.cost_centre WHEN 'account' THEN '' END
"""
_START: Final = """
    CASE cap.period WHEN 'term' THEN cap.effective_at
        WHEN 'day' THEN date_trunc('day', {instant}, account.time_zone)
        WHEN 'month' THEN date_trunc('month', {instant}, account.time_zone) END
"""
_COUNTED_BY_LIMITS: Final = f"""
    cap.ended_at IS NULL AND cap.period <> 'run' AND cap.unit <> 'overage'
    AND ({_VALUE} <> '' OR cap.scope = 'account')
    AND cap.scope_value IN ('', {_VALUE})
"""

INVARIANTS: Final[dict[str, str]] = {
    "an account counts what its open holds hold": """
        SELECT standing.account_id
        FROM ledger_standing AS standing
        LEFT JOIN (
            SELECT shard, account_id, sum(counted_microtokens) AS microtokens,
                   count(*) FILTER (WHERE due_at IS NOT NULL) AS open_count
            FROM ledger_hold GROUP BY shard, account_id
        ) AS holds
            ON holds.shard = standing.shard AND holds.account_id = standing.account_id
        WHERE standing.held_microtokens <> coalesce(holds.microtokens, 0)
           OR standing.open_holds_count <> coalesce(holds.open_count, 0)
    """,
    "an account counts its limits": """
        SELECT standing.account_id
        FROM ledger_standing AS standing
        LEFT JOIN ledger_limit AS cap
            ON cap.shard = standing.shard AND cap.account_id = standing.account_id
           AND cap.ended_at IS NULL
        GROUP BY standing.shard, standing.account_id
        HAVING standing.limits_count <> count(cap.id)
    """,
    "a hold is captured if its run is debited, and only then": """
        SELECT hold.account_id, hold.run_key
        FROM ledger_hold AS hold
        LEFT JOIN ledger_run AS run
            ON run.shard = hold.shard AND run.account_id = hold.account_id
           AND run.run_key = hold.run_key
           AND (run.part = 0 AND run.flags & 8 = 0 OR run.flags & 16 > 0)
        WHERE (hold.captured_at IS NOT NULL AND run.run_key IS NULL)
           OR (hold.due_at IS NOT NULL AND run.run_key IS NOT NULL)
    """,
    "a hold that waits has a review that nobody has answered": """
        SELECT hold.account_id, hold.run_key
        FROM ledger_hold AS hold
        LEFT JOIN ledger_limitreview AS review
            ON review.shard = hold.shard AND review.id = hold.review_id
           AND review.account_id = hold.account_id
        WHERE hold.review_id IS NOT NULL AND hold.held_at IS NULL AND hold.refused_at IS NULL
          AND hold.released_at IS NULL AND hold.captured_at IS NULL
          AND (review.id IS NULL OR review.answered_at IS NOT NULL)
    """,
    "what a limit has used is what its runs cost": f"""
        SELECT coalesce(counted.limit_id, standing.limit_id)
        FROM (
            SELECT cap.shard, cap.id AS limit_id, {_VALUE} AS scope_value,
                   {_START.format(instant="run.occurred_at")} AS period_start,
                   sum(CASE cap.unit WHEN 'tokens' THEN run.microtokens ELSE run.micros END) AS used
            FROM ledger_limit AS cap
            JOIN ledger_account AS account
                ON account.shard = cap.shard AND account.id = cap.account_id
            JOIN ledger_run AS run
                ON run.shard = cap.shard AND run.account_id = cap.account_id
            JOIN ledger_attribution AS who
                ON who.shard = run.shard AND who.account_id = run.account_id
               AND who.key = run.attribution_key
            WHERE {_COUNTED_BY_LIMITS}
              AND run.occurred_at >= {_START.format(instant="cap.effective_at")}
              AND (cap.until_at IS NULL OR run.occurred_at < cap.until_at)
            GROUP BY 1, 2, 3, 4
            HAVING sum(CASE cap.unit WHEN 'tokens' THEN run.microtokens ELSE run.micros END) <> 0
        ) AS counted
        FULL JOIN (
            SELECT stand.* FROM ledger_limituse AS stand
            JOIN ledger_limit AS cap ON cap.shard = stand.shard AND cap.id = stand.limit_id
            WHERE cap.ended_at IS NULL AND stand.used <> 0
        ) AS standing
            ON standing.shard = counted.shard AND standing.limit_id = counted.limit_id
           AND standing.scope_value = counted.scope_value
           AND standing.period_start = counted.period_start
        WHERE counted.used IS DISTINCT FROM standing.used
    """,  # noqa: S608  of constants
    "what is held of a limit is what its open holds hold": f"""
        SELECT coalesce(counted.limit_id, standing.limit_id)
        FROM (
            SELECT cap.shard, cap.id AS limit_id, {_VALUE} AS scope_value,
                   {_START.format(instant="who.held_at")} AS period_start,
                   sum(CASE cap.unit WHEN 'tokens' THEN who.counted_microtokens
                                     ELSE who.counted_micros END) AS held
            FROM ledger_limit AS cap
            JOIN ledger_account AS account
                ON account.shard = cap.shard AND account.id = cap.account_id
            JOIN ledger_hold AS who
                ON who.shard = cap.shard AND who.account_id = cap.account_id
               AND cap.id = ANY (who.limit_ids)
            WHERE {_COUNTED_BY_LIMITS}
            GROUP BY 1, 2, 3, 4
            HAVING sum(CASE cap.unit WHEN 'tokens' THEN who.counted_microtokens
                                     ELSE who.counted_micros END) <> 0
        ) AS counted
        FULL JOIN (
            SELECT stand.* FROM ledger_limituse AS stand
            JOIN ledger_limit AS cap ON cap.shard = stand.shard AND cap.id = stand.limit_id
            WHERE cap.ended_at IS NULL AND stand.held <> 0
        ) AS standing
            ON standing.shard = counted.shard AND standing.limit_id = counted.limit_id
           AND standing.scope_value = counted.scope_value
           AND standing.period_start = counted.period_start
        WHERE counted.held IS DISTINCT FROM standing.held
    """,  # noqa: S608  of constants
    "an excess is a debited run's, beyond its limit": """
        SELECT excess.limit_id, excess.run_key
        FROM ledger_limitexcess AS excess
        JOIN ledger_limit AS cap ON cap.shard = excess.shard AND cap.id = excess.limit_id
        LEFT JOIN ledger_run AS run
            ON run.shard = excess.shard AND run.account_id = excess.account_id
           AND run.run_key = excess.run_key AND run.part = excess.part
        WHERE run.run_key IS NULL OR cap.account_id <> excess.account_id
           OR excess.used_after <= cap.cap
           OR excess.used_after - excess.used_before
              <> CASE cap.unit WHEN 'tokens' THEN run.microtokens ELSE run.micros END
    """,
}
