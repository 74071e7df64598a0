-- Take holds whose time has come out of what counts: an open one lapses, and is watched for a day
-- in case its run comes late; one that was watched long enough is done with.
--
-- locks       the accounts (hold_accounts.sql), in an earlier statement
-- parameters  shards int[], account_ids bigint[], at timestamptz, watched interval
-- row         account_id bigint, microtokens, micros bigint (what it counted for), held_at timestamptz,
--             limit_ids bigint[], workflow, project, job, cost_centre, actor text
WITH due AS (
    SELECT * FROM ledger_hold
    WHERE shard = ANY (%(shards)s) AND account_id = ANY (%(account_ids)s) AND due_at <= %(at)s
),
passed AS (
    UPDATE ledger_hold AS hold
    SET lapsed_at = CASE WHEN due.lapsed_at IS NULL AND due.released_at IS NULL
                         THEN %(at)s::timestamptz ELSE due.lapsed_at END,
        counted_microtokens = 0,
        counted_micros = 0,
        due_at = CASE WHEN due.lapsed_at IS NULL AND due.released_at IS NULL
                      THEN %(at)s + %(watched)s::interval END
    FROM due
    WHERE hold.shard = due.shard AND hold.account_id = due.account_id AND hold.run_key = due.run_key
    RETURNING hold.shard, hold.account_id, due.counted_microtokens, hold.due_at
),
sums AS (
    SELECT shard, account_id, sum(counted_microtokens)::bigint AS microtokens,
           count(*) FILTER (WHERE due_at IS NULL) AS done_count
    FROM passed GROUP BY shard, account_id
),
counted AS (
    UPDATE ledger_standing AS standing
    SET held_microtokens = standing.held_microtokens - sums.microtokens,
        open_holds_count = standing.open_holds_count - sums.done_count
    FROM sums
    WHERE standing.shard = sums.shard AND standing.account_id = sums.account_id
)
SELECT account_id, counted_microtokens AS microtokens, counted_micros AS micros, held_at, limit_ids,
       workflow, project, job, cost_centre, actor
FROM due
WHERE held_at IS NOT NULL AND lapsed_at IS NULL AND released_at IS NULL
