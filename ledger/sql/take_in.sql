-- Take a batch in: for each shard it touches, the details for ever and the packed runs until the debit.
--
-- locks       none
-- parameters  shards smallint[], batch_id uuid, received_at timestamptz, runs_counts int[], details bytea[],
--             runs bytea[]
WITH part AS (
    SELECT * FROM unnest(
        %(shards)s::smallint[], %(runs_counts)s::integer[], %(details)s::bytea[], %(runs)s::bytea[]
    ) AS part (shard, runs_count, details, runs)
),
submission AS (
    INSERT INTO ledger_submission (shard, batch_id, received_at, runs_count, details)
    SELECT shard, %(batch_id)s, %(received_at)s, runs_count, details FROM part
    RETURNING shard, id
)
INSERT INTO ledger_intake (shard, id, runs_count, runs)
SELECT shard, submission.id, part.runs_count, part.runs
FROM submission JOIN part USING (shard)
