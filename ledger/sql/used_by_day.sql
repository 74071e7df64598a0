-- What the runs of each day took from lots that have money in them. Reads every run of the
-- accounts once.
--
-- locks       none
-- parameters  shards int[], account_ids bigint[], until_at timestamptz
-- row         day date, lot_id bigint, microtokens bigint
WITH lot AS (
    SELECT shard, id FROM ledger_lot
    WHERE shard = ANY (%(shards)s) AND account_id = ANY (%(account_ids)s)
      AND (price_micros > 0 OR kind = 'overage')
),
taken AS (
    SELECT run.lot_id, run.occurred_at, run.microtokens
    FROM ledger_run AS run
    JOIN lot ON lot.shard = run.shard AND lot.id = run.lot_id
    WHERE run.shard = ANY (%(shards)s) AND run.account_id = ANY (%(account_ids)s)
      AND run.slices_count = 1
    UNION ALL
    SELECT entry.lot_id, entry.occurred_at, entry.microtokens
    FROM lot
    JOIN ledger_entry AS entry
        ON entry.shard = lot.shard AND entry.lot_id = lot.id AND entry.kind = 'debit'
)
SELECT (occurred_at AT TIME ZONE 'UTC')::date AS day, lot_id, sum(microtokens)::bigint
FROM taken
WHERE occurred_at < %(until_at)s
GROUP BY day, lot_id
ORDER BY day, lot_id
