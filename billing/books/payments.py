"""What was paid for top-ups, and what of it went back: queries for the columns of a Standing."""

from typing import Final

from billing import reversals

# Checkout takes the money and its tax at once; the lot is granted as any other.
TOP_UPS_PAID: Final = """
    SELECT 'top_up:' || top_up.id || part.suffix AS subject, customer.id AS customer_id,
           top_up.currency, 'cash' AS debit, part.account AS credit,
           (part.amount * 1000000)::bigint AS micros,
           (payment.paid_at AT TIME ZONE 'UTC')::date AS happened_on
    FROM billing_topuppayment AS payment
    JOIN billing_topup AS top_up ON top_up.id = payment.top_up_id
    JOIN billing_customer AS customer
        ON customer.id = top_up.customer_id AND customer.vendor_id = %(vendor_id)s
    CROSS JOIN LATERAL (VALUES
        ('', 'unbilled_tokens', top_up.price),
        (':tax', 'tax', payment.amount - top_up.price)
    ) AS part (suffix, account, amount)
    WHERE payment.paid_at < %(ends_at)s
"""
# What goes back has tax in it, in the proportion of the payment.
_SHARES: Final = """
    CROSS JOIN LATERAL (
        SELECT floor(gone.amount * top_up.price / payment.amount * 1000000)::bigint AS net
    ) AS share
    CROSS JOIN LATERAL (VALUES
        ('', 'refunds', share.net),
        (':tax', 'tax', (gone.amount * 1000000)::bigint - share.net)
    ) AS part (suffix, account, micros)
"""
# A refund that succeeded may fail days later: then the money is there again.
REFUNDED: Final = f"""
    SELECT 'refund:' || gone.id || part.suffix AS subject, customer.id AS customer_id,
           gone.currency, part.account AS debit, 'cash' AS credit,
           CASE WHEN failure.id IS NULL THEN part.micros ELSE 0 END AS micros,
           (coalesce(failure.failed_at, success.succeeded_at) AT TIME ZONE 'UTC')::date
               AS happened_on
    FROM billing_refund AS gone
    JOIN billing_refundsuccess AS success ON success.refund_id = gone.id
    LEFT JOIN billing_refundfailure AS failure
        ON failure.refund_id = gone.id AND failure.failed_at < %(ends_at)s
    JOIN billing_topup AS top_up ON top_up.id = gone.top_up_id
    JOIN billing_topuppayment AS payment ON payment.top_up_id = top_up.id
    JOIN billing_customer AS customer
        ON customer.id = top_up.customer_id AND customer.vendor_id = %(vendor_id)s
    {_SHARES}
    WHERE success.succeeded_at < %(ends_at)s
"""  # noqa: S608  constants
# The bank has the money from the opening of a dispute on, unless it only inquires.
_STANDS: Final = f"""
    CROSS JOIN LATERAL (
        SELECT status, noted_at, status NOT LIKE '{reversals.INQUIRY}%%' AND status NOT IN (
            {", ".join(f"'{one}'" for one in sorted(reversals.GIVEN_BACK))}) AS is_gone
        FROM billing_disputestatus
        WHERE dispute_id = gone.id AND noted_at < %(ends_at)s
        ORDER BY id DESC LIMIT 1
    ) AS stands
"""  # noqa: S608
DISPUTED: Final = f"""
    SELECT 'dispute:' || gone.id AS subject, customer.id AS customer_id, gone.currency,
           'disputed' AS debit, 'cash' AS credit,
           CASE WHEN stands.is_gone THEN (gone.amount * 1000000)::bigint ELSE 0 END AS micros,
           (stands.noted_at AT TIME ZONE 'UTC')::date AS happened_on
    FROM billing_dispute AS gone
    LEFT JOIN billing_topup AS top_up ON top_up.id = gone.top_up_id
    LEFT JOIN billing_invoice AS invoice ON invoice.id = gone.invoice_id
    JOIN billing_customer AS customer
        ON customer.id = coalesce(top_up.customer_id, invoice.customer_id)
       AND customer.vendor_id = %(vendor_id)s
    {_STANDS}
"""  # noqa: S608
# What is lost of a top-up is as if it had been refunded; of an invoice it is written off.
DISPUTES_LOST: Final = f"""
    SELECT 'dispute:' || gone.id || part.suffix AS subject, customer.id AS customer_id,
           gone.currency, part.account AS debit, 'disputed' AS credit,
           CASE stands.status WHEN '{reversals.LOST}' THEN part.micros ELSE 0 END AS micros,
           (stands.noted_at AT TIME ZONE 'UTC')::date AS happened_on
    FROM billing_dispute AS gone
    JOIN billing_topup AS top_up ON top_up.id = gone.top_up_id
    JOIN billing_topuppayment AS payment ON payment.top_up_id = top_up.id
    JOIN billing_customer AS customer
        ON customer.id = top_up.customer_id AND customer.vendor_id = %(vendor_id)s
    {_STANDS}
    {_SHARES}
    UNION ALL
    SELECT 'dispute:' || gone.id, customer.id, gone.currency, 'written_off', 'disputed',
           CASE stands.status WHEN '{reversals.LOST}' THEN (gone.amount * 1000000)::bigint
                ELSE 0 END,
           (stands.noted_at AT TIME ZONE 'UTC')::date
    FROM billing_dispute AS gone
    JOIN billing_invoice AS invoice ON invoice.id = gone.invoice_id
    JOIN billing_customer AS customer
        ON customer.id = invoice.customer_id AND customer.vendor_id = %(vendor_id)s
    {_STANDS}
"""  # noqa: S608
