"""Of what is sold: plans, what their subscriptions chose and were given, and top-ups."""

from typing import Final

INVARIANTS: Final[dict[str, str]] = {
    "a published version has a price, and each its tiers or package if overage is invoiced": """
        SELECT version.id
        FROM billing_planversion AS version
        LEFT JOIN billing_planprice AS price ON price.version_id = version.id
        WHERE version.published_at IS NOT NULL
          AND (price.id IS NULL
               OR (version.overage_policy <> 'block' AND version.overage_model <> 'package')
                  <> EXISTS (
                   SELECT FROM billing_overagetier AS tier
                   WHERE tier.version_id = version.id AND tier.currency = price.currency)
               OR (version.overage_policy <> 'block' AND version.overage_model = 'package')
                  <> (price.package_price > 0))
    """,
    "a subscription's plan is sold in its customer's currency": """
        SELECT subscription.id
        FROM billing_subscription AS subscription
        JOIN billing_customer AS customer ON customer.id = subscription.customer_id
        LEFT JOIN billing_planprice AS price
            ON price.version_id = subscription.plan_version_id
            AND price.currency = customer.currency
        WHERE price.id IS NULL
    """,
    "a subscription has a size if its plan comes in sizes, and seats if they have a price": """
        SELECT subscription.id
        FROM billing_subscription AS subscription
        JOIN billing_customer AS customer ON customer.id = subscription.customer_id
        JOIN billing_planprice AS price
            ON price.version_id = subscription.plan_version_id
            AND price.currency = customer.currency
        LEFT JOIN billing_sizeoption AS size ON size.id = subscription.size_id
        WHERE (subscription.seats > 0) <> (price.seat_price > 0)
           OR (subscription.size_id IS NOT NULL) <> EXISTS (
               SELECT FROM billing_sizeoption AS offered
               WHERE offered.version_id = price.version_id)
           OR (subscription.size_id IS NOT NULL
               AND (size.version_id, size.currency) <> (price.version_id, price.currency))
    """,
    "a gift is a free lot of its customer, of the size that the plan gives": """
        SELECT gift.id
        FROM billing_gift AS gift
        JOIN billing_customer AS customer ON customer.id = gift.customer_id
        JOIN billing_subscription AS subscription ON subscription.id = gift.subscription_id
        JOIN billing_planversion AS version ON version.id = subscription.plan_version_id
        LEFT JOIN ledger_lot AS lot ON lot.id = gift.lot_id
        WHERE (lot.granted_microtokens, lot.account_id, lot.source, lot.price_micros)
              IS DISTINCT FROM (
                  CASE gift.kind WHEN 'trial' THEN version.trial_microtokens
                                 ELSE version.welcome_microtokens END,
                  customer.account_id, gift.kind, 0)
           OR (subscription.customer_id, version.plan_id) <> (gift.customer_id, gift.plan_id)
    """,
    "a top-up is fulfilled by one lot of its size, its customer's, and one of its bonus": """
        SELECT top_up.id
        FROM billing_topupfulfilment AS fulfilment
        JOIN billing_topup AS top_up ON top_up.id = fulfilment.top_up_id
        JOIN billing_customer AS customer ON customer.id = top_up.customer_id
        LEFT JOIN ledger_lot AS lot ON lot.id = fulfilment.lot_id
        LEFT JOIN ledger_lot AS bonus ON bonus.id = fulfilment.bonus_lot_id
        WHERE (lot.granted_microtokens, lot.account_id, lot.source)
              IS DISTINCT FROM (top_up.microtokens, customer.account_id, 'top_up')
           OR (top_up.bonus_microtokens > 0) <> (fulfilment.bonus_lot_id IS NOT NULL)
           OR (fulfilment.bonus_lot_id IS NOT NULL
               AND (bonus.granted_microtokens, bonus.account_id, bonus.price_micros)
                   IS DISTINCT FROM (top_up.bonus_microtokens, customer.account_id, 0))
    """,
    "a top-up that is paid is fulfilled": """
        SELECT payment.top_up_id
        FROM billing_topuppayment AS payment
        LEFT JOIN billing_topupfulfilment AS fulfilment USING (top_up_id)
        WHERE fulfilment.id IS NULL
    """,
    "a lot that was bought fulfils a top-up": """
        SELECT operation.lot_id
        FROM ledger_operation AS operation
        LEFT JOIN billing_topupfulfilment AS fulfilment
            ON operation.lot_id IN (fulfilment.lot_id, fulfilment.bonus_lot_id)
        WHERE operation.kind = 'grant' AND operation.key LIKE 'top_up:%%'
          AND fulfilment.id IS NULL
    """,
    "an allotment that waits for its payment is granted when its invoice is paid": """
        SELECT period.id
        FROM billing_invoiceline AS line
        JOIN billing_period AS period ON period.id = line.period_id
        JOIN billing_subscription AS subscription ON subscription.id = period.subscription_id
        JOIN billing_planversion AS version ON version.id = subscription.plan_version_id
        LEFT JOIN billing_invoicepayment AS payment USING (invoice_id)
        LEFT JOIN billing_invoicecarried AS carried USING (invoice_id)
        LEFT JOIN billing_paidallotment AS paid ON paid.period_id = period.id
        WHERE line.kind = 'allotment' AND version.grant_on_payment AND carried.id IS NULL
          AND (payment.id IS NULL) <> (paid.id IS NULL)
    """,
}
