"""Of what was frozen and revoked, and what is owed for it."""

from typing import Final

INVARIANTS: Final[dict[str, str]] = {
    "nothing is thawed, restored or forgiven that was not taken before": """
        SELECT operation.lot_id
        FROM ledger_operation AS operation
        JOIN ledger_entry AS entry
            ON entry.shard = operation.shard AND entry.account_id = operation.account_id
           AND entry.operation_key = operation.key
        WHERE operation.kind = 'reverse'
        GROUP BY operation.shard, operation.lot_id
        HAVING coalesce(sum(entry.microtokens) FILTER (WHERE entry.kind = 'freeze'), 0)
               < coalesce(sum(entry.microtokens) FILTER (WHERE entry.kind = 'thaw'), 0)
            OR coalesce(sum(entry.microtokens) FILTER (WHERE entry.kind = 'revoke'), 0)
               < coalesce(sum(entry.microtokens) FILTER (WHERE entry.kind = 'restore'), 0)
            OR coalesce(sum(entry.microtokens) FILTER (WHERE entry.kind = 'owe'), 0)
               < coalesce(sum(entry.microtokens) FILTER (WHERE entry.kind = 'forgive'), 0)
    """,
    "no more of a lot is frozen, revoked and owed than was granted": """
        SELECT lot.id
        FROM ledger_operation AS operation
        JOIN ledger_entry AS entry
            ON entry.shard = operation.shard AND entry.account_id = operation.account_id
           AND entry.operation_key = operation.key
        JOIN ledger_lot AS lot ON lot.shard = operation.shard AND lot.id = operation.lot_id
        WHERE operation.kind = 'reverse'
        GROUP BY lot.shard, lot.id, lot.granted_microtokens
        HAVING sum(CASE
                   WHEN entry.kind IN ('freeze', 'revoke', 'owe') THEN entry.microtokens
                   WHEN entry.kind IN ('thaw', 'restore', 'forgive') THEN -entry.microtokens
                   ELSE 0 END) > lot.granted_microtokens
    """,
    "what a reversal takes it takes of its own lot, and what is owed stands in the debt lot": """
        SELECT entry.id
        FROM ledger_entry AS entry
        JOIN ledger_account AS account
            ON account.shard = entry.shard AND account.id = entry.account_id
        LEFT JOIN ledger_operation AS operation
            ON operation.shard = entry.shard AND operation.account_id = entry.account_id
           AND operation.key = entry.operation_key AND operation.kind = 'reverse'
        WHERE entry.kind IN ('freeze', 'thaw', 'revoke', 'restore', 'owe', 'forgive')
          AND entry.lot_id IS DISTINCT FROM CASE
              WHEN operation.key IS NULL THEN NULL
              WHEN entry.kind IN ('owe', 'forgive') THEN account.debt_lot_id
              ELSE operation.lot_id END
    """,
}
