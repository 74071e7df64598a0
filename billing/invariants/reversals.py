"""Of refunds and disputes of top-ups, and what they took of the lots."""

from typing import Final

INVARIANTS: Final[dict[str, str]] = {
    "a top-up's lot was brought to what its refunds and disputes come to": """
        SELECT top_up.id
        FROM billing_topup AS top_up
        JOIN billing_topuppayment AS payment ON payment.top_up_id = top_up.id
        LEFT JOIN LATERAL (
            SELECT reversal.to_revoke_microtokens AS to_revoke,
                   reversal.to_revoke_microtokens + reversal.to_freeze_microtokens AS taken
            FROM billing_topupreversal AS reversal WHERE reversal.top_up_id = top_up.id
            ORDER BY number DESC LIMIT 1
        ) AS last ON true
        LEFT JOIN LATERAL (
            SELECT sum(piece.microtokens) AS decided,
                   sum(piece.microtokens) FILTER (WHERE piece.is_gone) AS decided_gone,
                   sum(piece.amount) FILTER (WHERE piece.microtokens IS NULL) AS share,
                   sum(piece.amount) FILTER (WHERE piece.microtokens IS NULL AND piece.is_gone)
                       AS share_gone
            FROM (
                SELECT refund.microtokens, refund.amount, success.id IS NOT NULL AS is_gone
                FROM billing_refund AS refund
                LEFT JOIN billing_refundsuccess AS success ON success.refund_id = refund.id
                LEFT JOIN billing_refundfailure AS failure ON failure.refund_id = refund.id
                WHERE refund.top_up_id = top_up.id AND failure.id IS NULL
                UNION ALL
                SELECT NULL, dispute.amount, standing.status = 'lost'
                FROM billing_dispute AS dispute
                JOIN LATERAL (
                    SELECT status FROM billing_disputestatus AS noted
                    WHERE noted.dispute_id = dispute.id ORDER BY noted.id DESC LIMIT 1
                ) AS standing ON standing.status NOT IN ('won', 'prevented')
                    AND standing.status NOT LIKE 'warning%%'
                WHERE dispute.top_up_id = top_up.id
            ) AS piece
        ) AS wanted ON true
        WHERE coalesce(last.to_revoke, 0) <> least(
                top_up.microtokens,
                coalesce(wanted.decided_gone, 0) + ceil(
                    top_up.microtokens * least(coalesce(wanted.share_gone, 0), payment.amount)
                    / payment.amount))
           OR coalesce(last.taken, 0) <> least(
                top_up.microtokens,
                coalesce(wanted.decided, 0) + ceil(
                    top_up.microtokens * least(coalesce(wanted.share, 0), payment.amount)
                    / payment.amount))
    """,
    "a reversal says what the ledger took of the lot": """
        SELECT reversal.id
        FROM billing_topupreversal AS reversal
        JOIN billing_topupfulfilment AS fulfilment ON fulfilment.top_up_id = reversal.top_up_id
        LEFT JOIN LATERAL (
            SELECT sum(CASE kind WHEN 'freeze' THEN entry.microtokens
                                 WHEN 'thaw' THEN -entry.microtokens ELSE 0 END) AS frozen,
                   sum(CASE kind WHEN 'revoke' THEN entry.microtokens
                                 WHEN 'restore' THEN -entry.microtokens ELSE 0 END) AS revoked,
                   sum(CASE kind WHEN 'owe' THEN entry.microtokens
                                 WHEN 'forgive' THEN -entry.microtokens ELSE 0 END) AS owed
            FROM ledger_entry AS entry
            WHERE entry.operation_key LIKE 'top_up:' || reversal.top_up_id || ':reversal:%%'
        ) AS moved ON true
        WHERE NOT EXISTS (
                SELECT FROM billing_topupreversal AS later
                WHERE later.top_up_id = reversal.top_up_id AND later.number > reversal.number)
          AND (reversal.frozen_microtokens, reversal.revoked_microtokens,
               reversal.owed_microtokens)
              <> (coalesce(moved.frozen, 0), coalesce(moved.revoked, 0), coalesce(moved.owed, 0))
    """,
    "of free tokens no more is taken than their share, and nothing is owed": """
        SELECT fulfilment.top_up_id
        FROM billing_topupfulfilment AS fulfilment
        JOIN billing_topup AS top_up ON top_up.id = fulfilment.top_up_id
        JOIN LATERAL (
            SELECT to_revoke_microtokens + to_freeze_microtokens AS microtokens
            FROM billing_topupreversal AS reversal
            WHERE reversal.top_up_id = top_up.id ORDER BY number DESC LIMIT 1
        ) AS wanted ON true
        JOIN LATERAL (
            SELECT coalesce(sum(CASE
                       WHEN kind IN ('freeze', 'revoke', 'owe') THEN entry.microtokens
                       WHEN kind IN ('thaw', 'restore', 'forgive') THEN -entry.microtokens
                       ELSE 0 END), 0) AS microtokens,
                   coalesce(bool_or(kind = 'owe'), false) AS is_owed
            FROM ledger_entry AS entry
            WHERE entry.operation_key LIKE 'top_up:' || top_up.id || ':bonus:reversal:%%'
        ) AS taken ON true
        WHERE taken.is_owed
           OR taken.microtokens > ceil(
                top_up.bonus_microtokens::numeric * wanted.microtokens / top_up.microtokens)
    """,
    "no more of a top-up is refunded than was paid for it": """
        SELECT refund.top_up_id
        FROM billing_refund AS refund
        LEFT JOIN billing_topuppayment AS payment ON payment.top_up_id = refund.top_up_id
        LEFT JOIN billing_refundfailure AS failure ON failure.refund_id = refund.id
        WHERE failure.id IS NULL
        GROUP BY refund.top_up_id, payment.amount, payment.currency
        HAVING sum(refund.amount) > coalesce(payment.amount, 0)
            OR bool_or(refund.currency IS DISTINCT FROM payment.currency)
    """,
    "a refund that was asked for here is asked of Stripe": """
        SELECT refund.id
        FROM billing_refund AS refund
        LEFT JOIN billing_stripecall AS call
            ON call.aggregate_id = refund.id AND call.operation = 'refund.create'
        LEFT JOIN billing_refundatstripe AS known ON known.refund_id = refund.id
        WHERE (refund.microtokens IS NULL AND known.id IS NULL)
           OR (refund.microtokens IS NOT NULL AND call.id IS NULL)
    """,
}
