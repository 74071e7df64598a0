-- The tiers of overage lots.
--
-- locks       none
-- parameters  shard int, lot_ids bigint[]
-- row         id bigint, tiers text (JSON)
SELECT id, tiers FROM ledger_lot WHERE shard = %(shard)s AND id = ANY (%(lot_ids)s::bigint[])
