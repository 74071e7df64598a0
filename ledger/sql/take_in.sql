-- Take batches in: for each shard that one touches, the details for ever and the packed runs until the debit.
--
-- locks       none
-- parameters  received_at timestamptz; for each batch: batch_ids uuid[], book_ids,
--             batch_runs_counts, shards_begins, shards_sizes bigint[]: where those that it touches
--             stand, a byte for each, in shards bytea, those of all batches;
--             for each part (a batch's runs in one shard): part_batches bigint[] (the batch's place,
--             from 1), part_shards, part_runs_counts, details_begins, details_sizes, runs_begins,
--             runs_sizes bigint[]: where it stands in details and runs bytea, those of all parts
-- row         id bigint: the submission's and the intake's, for each part in its order
WITH batch AS (
    INSERT INTO ledger_batch (id, book_id, received_at, runs_count, shards)
    SELECT id, book_id, %(received_at)s, runs_count,
           substring(%(shards)s::bytea FROM shards_begin::integer FOR shards_size::integer)
    FROM unnest(
        %(batch_ids)s::uuid[], %(book_ids)s::bigint[], %(batch_runs_counts)s::bigint[],
        %(shards_begins)s::bigint[], %(shards_sizes)s::bigint[]
    ) AS batch (id, book_id, runs_count, shards_begin, shards_size)
),
part AS MATERIALIZED (
    SELECT nextval(pg_get_serial_sequence('ledger_submission', 'id')) AS id, part.*
    FROM unnest(
        %(part_batches)s::bigint[], %(part_shards)s::bigint[], %(part_runs_counts)s::bigint[],
        %(details_begins)s::bigint[], %(details_sizes)s::bigint[],
        %(runs_begins)s::bigint[], %(runs_sizes)s::bigint[]
    ) AS part (
        batch, shard, runs_count, details_begin, details_size, runs_begin, runs_size
    )
),
submission AS (
    INSERT INTO ledger_submission (shard, id, batch_id, received_at, runs_count, details)
    SELECT shard, id, (%(batch_ids)s::uuid[])[batch], %(received_at)s, runs_count,
           substring(%(details)s::bytea FROM details_begin::integer FOR details_size::integer)
    FROM part
),
intake AS (
    INSERT INTO ledger_intake (shard, id, runs_count, runs)
    SELECT shard, id, runs_count,
           substring(%(runs)s::bytea FROM runs_begin::integer FOR runs_size::integer)
    FROM part
)
SELECT id FROM part
