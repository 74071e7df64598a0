-- Whether a run is accepted and not debited yet. Packed runs begin with their account and key.
--
-- locks       none
-- parameters  shard int, head bytea (ledger.packing.run_head)
-- row         is_there boolean
SELECT EXISTS (
    SELECT FROM ledger_intake WHERE shard = %(shard)s AND position(%(head)s::bytea IN runs) > 0
) AS is_there
