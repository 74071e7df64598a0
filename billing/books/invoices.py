"""Invoices, credits and what became of them: queries for the columns of a Standing."""

from typing import Final

from billing.books import chart
from billing.models import InvoiceLine

# Which account an invoice's line of each kind is taken from, and whether a carried one is another.
ACCOUNT_OF_LINE: Final[dict[str, str]] = {
    InvoiceLine.Kind.PLATFORM_FEE: chart.UNBILLED_FEES,
    InvoiceLine.Kind.SEATS: chart.UNBILLED_FEES,
    InvoiceLine.Kind.ALLOTMENT: chart.UNBILLED_TOKENS,
    InvoiceLine.Kind.OVERAGE: chart.UNBILLED_OVERAGE,
    InvoiceLine.Kind.LATE_OVERAGE: chart.UNBILLED_OVERAGE,
    InvoiceLine.Kind.FEE_CHANGE: chart.UNBILLED_FEES,
    InvoiceLine.Kind.ALLOTMENT_CHANGE: chart.UNBILLED_TOKENS,
    InvoiceLine.Kind.TRUE_UP: chart.REVENUE_COMMITMENTS,
    InvoiceLine.Kind.CARRIED: chart.CARRIED,
}


# An invoice is issued by Stripe; one that is too small to be charged never is, and is carried over.
_ISSUED: Final = """
    SELECT invoice.id, invoice.customer_id, carried.id IS NOT NULL AS is_carried,
           coalesce(finalization.finalized_at, carried.carried_at) AS issued_at
    FROM billing_invoice AS invoice
    JOIN billing_customer AS customer ON customer.id = invoice.customer_id
    LEFT JOIN billing_invoicefinalization AS finalization ON finalization.invoice_id = invoice.id
    LEFT JOIN billing_invoicecarried AS carried ON carried.invoice_id = invoice.id
    WHERE customer.vendor_id = %(vendor_id)s
      AND coalesce(finalization.finalized_at, carried.carried_at) < %(ends_at)s
"""
_ACCOUNTS: Final = "unnest(%(kinds)s::text[], %(accounts)s::text[]) AS account_of (kind, account)"
INVOICED: Final = f"""
    SELECT 'invoice_line:' || line.id AS subject, issued.customer_id, line.currency,
           CASE WHEN is_carried THEN 'carried' ELSE 'receivable' END AS debit,
           account_of.account AS credit, (line.amount * 1000000)::bigint AS micros,
           (issued_at AT TIME ZONE 'UTC')::date AS happened_on
    FROM ({_ISSUED}) AS issued
    JOIN billing_invoiceline AS line ON line.invoice_id = issued.id
    JOIN {_ACCOUNTS} ON account_of.kind = line.kind
"""  # noqa: S608  constants
LINES_ROUNDED: Final = f"""
    SELECT 'invoice_line:' || line.id AS subject, issued.customer_id, line.currency,
           account_of.account AS debit, 'rounding' AS credit,
           ((line.amount + credited.amount) * 1000000)::bigint - line.micros AS micros,
           (issued_at AT TIME ZONE 'UTC')::date AS happened_on
    FROM ({_ISSUED}) AS issued
    JOIN billing_invoiceline AS line ON line.invoice_id = issued.id
    JOIN {_ACCOUNTS} ON account_of.kind = line.kind
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(amount), 0) AS amount FROM billing_credituse WHERE line_id = line.id
    ) AS credited
"""  # noqa: S608
COVERED: Final = f"""
    SELECT 'invoice_line:' || line.id AS subject, issued.customer_id, line.currency,
           'revenue_commitments' AS debit, 'unbilled_overage' AS credit,
           line.covered_micros AS micros, (issued_at AT TIME ZONE 'UTC')::date AS happened_on
    FROM ({_ISSUED}) AS issued
    JOIN billing_invoiceline AS line ON line.invoice_id = issued.id
"""  # noqa: S608
# A change that costs less, and a cancellation at once, take fees back (billing.books.fees). What
# was paid for tokens that are taken back is a refund.
CREDITED: Final = """
    SELECT 'credit:' || credit.id AS subject, customer.id AS customer_id, credit.currency,
           CASE WHEN credit.reason = 'change' OR credit.key LIKE 'cancel:%%:fees'
                THEN 'unbilled_fees'
                WHEN credit.reason = 'cancellation' THEN 'refunds'
                WHEN credit.reason = 'overage' THEN 'unbilled_overage'
                ELSE 'credited' END AS debit,
           'credits' AS credit, (credit.amount * 1000000)::bigint AS micros,
           (credit.recorded_at AT TIME ZONE 'UTC')::date AS happened_on
    FROM billing_credit AS credit
    JOIN billing_customer AS customer
        ON customer.id = credit.customer_id AND customer.vendor_id = %(vendor_id)s
    WHERE credit.recorded_at < %(ends_at)s
"""
# A change that costs less takes fees back exactly (fee_begun); its credit is rounded.
CREDITS_ROUNDED: Final = """
    SELECT 'credit:' || credit.id AS subject, customer.id AS customer_id, credit.currency,
           'rounding' AS debit, 'unbilled_fees' AS credit,
           (credit.amount * 1000000)::bigint + change.fee_micros AS micros,
           (credit.recorded_at AT TIME ZONE 'UTC')::date AS happened_on
    FROM billing_credit AS credit
    JOIN billing_customer AS customer
        ON customer.id = credit.customer_id AND customer.vendor_id = %(vendor_id)s
    JOIN billing_planchange AS change
        ON credit.reason = 'change' AND credit.key = 'change:' || change.subscription_id
    WHERE credit.recorded_at < %(ends_at)s
"""
# Overage that came to less than was invoiced is taken back exactly (overage); of it the commitment
# keeps a part, and what is credited is rounded.
_STEPS_DOWN: Final = """
    FROM billing_overagestep AS step
    JOIN billing_period AS period ON period.id = step.period_id
    JOIN billing_subscription AS subscription ON subscription.id = period.subscription_id
    JOIN billing_customer AS customer
        ON customer.id = subscription.customer_id AND customer.vendor_id = %(vendor_id)s
    LEFT JOIN billing_credit AS credit ON credit.key = 'overage:' || period.id || ':' || step.number
    WHERE step.micros < 0 AND step.billed_at < %(ends_at)s
"""
KEPT: Final = f"""
    SELECT 'overage_step:' || step.id AS subject, customer.id AS customer_id, customer.currency,
           'unbilled_overage' AS debit, 'revenue_commitments' AS credit, step.kept_micros AS micros,
           (step.billed_at AT TIME ZONE 'UTC')::date AS happened_on
    {_STEPS_DOWN}
"""
STEPS_ROUNDED: Final = f"""
    SELECT 'overage_step:' || step.id AS subject, customer.id AS customer_id, customer.currency,
           'rounding' AS debit, 'unbilled_overage' AS credit,
           (coalesce(credit.amount, 0) * 1000000)::bigint + step.micros + step.kept_micros
               AS micros,
           (step.billed_at AT TIME ZONE 'UTC')::date AS happened_on
    {_STEPS_DOWN}
"""
CREDIT_USED: Final = f"""
    SELECT 'credit_use:' || used.id AS subject, issued.customer_id, used.currency,
           'credits' AS debit, account_of.account AS credit,
           (used.amount * 1000000)::bigint AS micros,
           (issued_at AT TIME ZONE 'UTC')::date AS happened_on
    FROM ({_ISSUED}) AS issued
    JOIN billing_invoiceline AS line ON line.invoice_id = issued.id
    JOIN billing_credituse AS used ON used.line_id = line.id
    JOIN {_ACCOUNTS} ON account_of.kind = line.kind
"""  # noqa: S608
_FINALIZED: Final = """
    billing_invoicefinalization AS finalization
    JOIN billing_invoice AS invoice ON invoice.id = finalization.invoice_id
    JOIN billing_customer AS customer
        ON customer.id = invoice.customer_id AND customer.vendor_id = %(vendor_id)s
"""
TAXED: Final = f"""
    SELECT 'invoice:' || invoice.id AS subject, customer.id AS customer_id, invoice.currency,
           'receivable' AS debit, 'tax' AS credit,
           ((finalization.total - finalization.subtotal) * 1000000)::bigint AS micros,
           (finalization.finalized_at AT TIME ZONE 'UTC')::date AS happened_on
    FROM {_FINALIZED}
    WHERE finalization.finalized_at < %(ends_at)s
"""  # noqa: S608
PAID: Final = """
    SELECT 'invoice:' || invoice.id AS subject, customer.id AS customer_id, invoice.currency,
           'cash' AS debit, 'receivable' AS credit,
           (payment.amount * 1000000)::bigint AS micros,
           (payment.paid_at AT TIME ZONE 'UTC')::date AS happened_on
    FROM billing_invoicepayment AS payment
    JOIN billing_invoice AS invoice ON invoice.id = payment.invoice_id
    JOIN billing_customer AS customer
        ON customer.id = invoice.customer_id AND customer.vendor_id = %(vendor_id)s
    WHERE payment.paid_at < %(ends_at)s
"""
# What credit notes have taken off an invoice: that is not owed already.
_NOTED: Final = """
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(issued.subtotal), 0) AS subtotal,
               coalesce(sum(issued.total), 0) AS total,
               coalesce(sum(issued.taken_off), 0) AS taken_off
        FROM billing_creditnote AS note
        JOIN billing_creditnoteissued AS issued ON issued.credit_note_id = note.id
        LEFT JOIN billing_creditnotevoided AS voided ON voided.credit_note_id = note.id
        WHERE note.invoice_id = invoice.id AND voided.id IS NULL
          AND issued.issued_at < %(ends_at)s
    ) AS noted
"""
# What is void is not owed. What is uncollectible is an expense, unless it is paid after all.
VOIDED: Final = f"""
    SELECT 'invoice:' || invoice.id || part.suffix AS subject, customer.id AS customer_id,
           invoice.currency, part.account AS debit, 'receivable' AS credit,
           (part.amount * 1000000)::bigint AS micros,
           (given_up.given_up_at AT TIME ZONE 'UTC')::date AS happened_on
    FROM {_FINALIZED}
    JOIN billing_invoicegivenup AS given_up
        ON given_up.invoice_id = invoice.id AND given_up.kind = 'void'
    {_NOTED}
    CROSS JOIN LATERAL (VALUES
        ('', 'voided', finalization.subtotal - noted.subtotal),
        (':tax', 'tax',
         finalization.total - finalization.subtotal - (noted.total - noted.subtotal))
    ) AS part (suffix, account, amount)
    WHERE given_up.given_up_at < %(ends_at)s
"""  # noqa: S608
# A credit note takes off what is due, and what had been paid goes back; voided, it never was.
CREDIT_NOTED: Final = """
    SELECT 'credit_note:' || note.id || part.suffix AS subject, customer.id AS customer_id,
           issued.currency, part.debit, part.credit,
           CASE WHEN voided.id IS NULL THEN (part.amount * 1000000)::bigint ELSE 0 END AS micros,
           (coalesce(voided.voided_at, issued.issued_at) AT TIME ZONE 'UTC')::date AS happened_on
    FROM billing_creditnoteissued AS issued
    JOIN billing_creditnote AS note ON note.id = issued.credit_note_id
    JOIN billing_invoice AS invoice ON invoice.id = note.invoice_id
    JOIN billing_customer AS customer
        ON customer.id = invoice.customer_id AND customer.vendor_id = %(vendor_id)s
    LEFT JOIN billing_creditnotevoided AS voided
        ON voided.credit_note_id = note.id AND voided.voided_at < %(ends_at)s
    CROSS JOIN LATERAL (VALUES
        ('', 'credited', 'receivable', issued.subtotal),
        (':tax', 'tax', 'receivable', issued.total - issued.subtotal),
        (':back', 'receivable', 'cash', issued.paid_back)
    ) AS part (suffix, debit, credit, amount)
    WHERE issued.issued_at < %(ends_at)s
"""
WRITTEN_OFF: Final = f"""
    SELECT 'invoice:' || invoice.id AS subject, customer.id AS customer_id, invoice.currency,
           'written_off' AS debit, 'receivable' AS credit,
           CASE WHEN after_all.at IS NULL
                THEN ((finalization.total - noted.taken_off) * 1000000)::bigint
                ELSE 0 END AS micros,
           (coalesce(after_all.at, given_up.given_up_at) AT TIME ZONE 'UTC')::date AS happened_on
    FROM {_FINALIZED}
    JOIN billing_invoicegivenup AS given_up
        ON given_up.invoice_id = invoice.id AND given_up.kind = 'uncollectible'
    CROSS JOIN LATERAL (
        SELECT min(at) AS at FROM (
            SELECT paid_at AS at FROM billing_invoicepayment WHERE invoice_id = invoice.id
            UNION ALL
            SELECT given_up_at FROM billing_invoicegivenup
            WHERE invoice_id = invoice.id AND kind = 'void'
        ) AS one
        WHERE at < %(ends_at)s
    ) AS after_all
    {_NOTED}
    WHERE given_up.given_up_at < %(ends_at)s
"""  # noqa: S608
