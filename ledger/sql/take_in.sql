-- Take one shard's part of a batch in: the details for ever, the packed runs until the debit.
--
-- locks       none
-- parameters  shard int, batch_id uuid, received_at timestamptz, runs_count int, details bytea, runs bytea
WITH submission AS (
    INSERT INTO ledger_submission (shard, batch_id, received_at, runs_count, details)
    VALUES (%(shard)s, %(batch_id)s, %(received_at)s, %(runs_count)s, %(details)s)
    RETURNING shard, id, runs_count
)
INSERT INTO ledger_intake (shard, id, runs_count, runs)
SELECT shard, id, runs_count, %(runs)s::bytea FROM submission
