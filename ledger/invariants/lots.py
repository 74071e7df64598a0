"""Of lots and the entries on them."""

from typing import Final

INVARIANTS: Final[dict[str, str]] = {
    "a lot was put in by one grant, whole": """
        SELECT lot.id
        FROM ledger_lot AS lot
        LEFT JOIN ledger_entry AS entry
            ON entry.shard = lot.shard AND entry.lot_id = lot.id AND entry.kind = 'grant'
        WHERE lot.kind = 'prepaid'
        GROUP BY lot.shard, lot.id
        HAVING count(entry.id) <> 1 OR min(entry.microtokens) <> lot.granted_microtokens
    """,
    "rolled tokens arrive whole, and keep what was paid for them": """
        SELECT next_lot.id
        FROM ledger_lot AS next_lot
        JOIN ledger_lot AS lot
            ON lot.shard = next_lot.shard AND lot.id = next_lot.rolled_from_lot_id
        LEFT JOIN ledger_entry AS entry
            ON entry.shard = lot.shard AND entry.lot_id = lot.id AND entry.kind = 'roll_over'
        WHERE entry.microtokens IS DISTINCT FROM next_lot.granted_microtokens
           OR entry.microtokens > lot.rollover_microtokens_max
           OR next_lot.account_id <> lot.account_id
           OR next_lot.currency <> lot.currency
           OR next_lot.price_micros <> (
                floor(lot.price_micros::numeric * (entry.out_before_microtokens + entry.microtokens)
                      / lot.granted_microtokens)
                - floor(lot.price_micros::numeric * entry.out_before_microtokens
                        / lot.granted_microtokens))
    """,
    "what rolled over arrived in a lot": """
        SELECT entry.id
        FROM ledger_entry AS entry
        LEFT JOIN ledger_lot AS next_lot
            ON next_lot.shard = entry.shard AND next_lot.account_id = entry.account_id
           AND next_lot.rolled_from_lot_id = entry.lot_id
        WHERE entry.kind = 'roll_over' AND next_lot.id IS NULL
    """,
    "a repayment takes from a lot what it gives to the debt": """
        SELECT shard, account_id, operation_key
        FROM ledger_entry
        WHERE kind IN ('repay', 'repaid')
        GROUP BY shard, account_id, operation_key
        HAVING sum(CASE kind WHEN 'repay' THEN microtokens ELSE -microtokens END) <> 0
    """,
    "tokens leave a lot no sooner than it closes, but by use": """
        SELECT entry.id
        FROM ledger_entry AS entry
        JOIN ledger_lot AS lot ON lot.shard = entry.shard AND lot.id = entry.lot_id
        WHERE entry.kind IN ('expire', 'roll_over')
          AND (lot.closes_at IS NULL OR entry.occurred_at < lot.closes_at)
    """,
    "an account's lot in use is one of its open lots": """
        SELECT standing.account_id
        FROM ledger_standing AS standing
        LEFT JOIN ledger_lot AS lot
            ON lot.shard = standing.shard AND lot.id = standing.in_use_lot_id
        WHERE standing.in_use_lot_id IS NOT NULL
          AND (lot.account_id IS DISTINCT FROM standing.account_id OR NOT lot.open
               OR lot.granted_microtokens <> standing.in_use_granted_microtokens
               OR standing.in_use_out_microtokens NOT BETWEEN 0 AND lot.granted_microtokens
               OR standing.in_use_from_at < lot.effective_at
               OR standing.in_use_until_at > lot.expires_at)
    """,
    "an account has its standing, and only an account has one": """
        SELECT coalesce(account.id, standing.account_id)
        FROM ledger_account AS account
        FULL JOIN ledger_standing AS standing
            ON standing.shard = account.shard AND standing.account_id = account.id
        WHERE account.id IS NULL OR standing.account_id IS NULL
    """,
    "a lot is open while something is left": """
        SELECT id FROM ledger_lot_now
        WHERE NOT open AND out_microtokens < granted_microtokens
    """,
    "a code names one account of its book": """
        SELECT book_id, code FROM ledger_account GROUP BY book_id, code HAVING count(*) > 1
    """,
    "an account's lots are all of its currency": """
        SELECT lot.id
        FROM ledger_lot AS lot
        JOIN ledger_account AS account
            ON account.shard = lot.shard AND account.id = lot.account_id
        WHERE lot.currency NOT IN ('', account.currency)
    """,
    "an account has one debt lot, and names it": """
        SELECT account.id
        FROM ledger_account AS account
        LEFT JOIN ledger_lot AS lot
            ON lot.shard = account.shard AND lot.account_id = account.id AND lot.kind = 'debt'
        GROUP BY account.shard, account.id
        HAVING count(lot.id) <> 1 OR min(lot.id) <> account.debt_lot_id
    """,
}
