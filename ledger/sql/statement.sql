-- What moved on each of an account's lots, by kind: recorded before an instant, and from then
-- until another.
--
-- A run's debit was recorded when its block was; any other entry when it occurred. Reads every
-- run of the account once, beside the shard's blocks: a few seconds for ten million runs.
--
-- locks       none
-- parameters  shard int, account_id bigint, from_at, until_at timestamptz
-- row         the columns of ledger.statements.MovedRow
WITH lot AS (
    SELECT id FROM ledger_lot WHERE shard = %(shard)s AND account_id = %(account_id)s
),
movement AS (
    SELECT run.lot_id, 'debit' AS kind, run.microtokens, block.recorded_at
    FROM ledger_run AS run
    JOIN ledger_block AS block ON block.shard = run.shard AND block.number = run.block_number
    WHERE run.shard = %(shard)s AND run.account_id = %(account_id)s AND run.slices_count = 1
    UNION ALL
    SELECT entry.lot_id, entry.kind, entry.microtokens,
           coalesce(block.recorded_at, entry.occurred_at)
    FROM lot
    JOIN ledger_entry AS entry ON entry.shard = %(shard)s AND entry.lot_id = lot.id
    LEFT JOIN ledger_run AS run
        ON entry.kind = 'debit' AND run.shard = entry.shard
       AND run.account_id = entry.account_id AND run.run_key = entry.run_key
       AND run.part = entry.part
    LEFT JOIN ledger_block AS block
        ON block.shard = run.shard AND block.number = run.block_number
)
SELECT lot_id, kind,
       coalesce(sum(microtokens) FILTER (WHERE recorded_at < %(from_at)s), 0)::bigint
           AS before_microtokens,
       coalesce(sum(microtokens) FILTER (WHERE recorded_at >= %(from_at)s), 0)::bigint
           AS microtokens
FROM movement
WHERE recorded_at < %(until_at)s
GROUP BY lot_id, kind
