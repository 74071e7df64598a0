"""What must always hold of billing, each a query for the rows that break it.

INVARIANTS are queries, CHECKS are functions, for what SQL alone can't say. The books have theirs in
billing.books.proof.

As ledger.invariants, which it stands beside: asserted after every test that touched the database,
and by `manage.py check_billing`. Here are the rules that tie billing's facts to each other and to
the ledger's entries; a single row's rules are constraints of the database.
"""

from collections.abc import Callable
from typing import Final

from django.db import connection

from billing.books import proof
from billing.invariants import credit_notes, overage, paying, reversals, selling
from billing.invariants.overage import WHOLE_CURRENCIES

BROKEN_ROWS_MAX: Final = 10

INVARIANTS: Final[dict[str, str]] = (
    {
        "a cohort, its customers and what it is offered are one vendor's": """
        SELECT cohort.id
        FROM billing_cohort AS cohort
        LEFT JOIN billing_cohortmember AS member ON member.cohort_id = cohort.id
        LEFT JOIN billing_customer AS customer ON customer.id = member.customer_id
        LEFT JOIN billing_cohortoffer AS offer ON offer.cohort_id = cohort.id
        LEFT JOIN billing_plan AS plan ON plan.id = offer.plan_id
        WHERE customer.vendor_id <> cohort.vendor_id OR plan.vendor_id <> cohort.vendor_id
    """,
        "a settlement says what the ledger moved out of the allotment": """
        SELECT settlement.period_id
        FROM billing_periodsettlement AS settlement
        JOIN billing_period AS period ON period.id = settlement.period_id
        LEFT JOIN (
            SELECT lot_id,
                   sum(microtokens) FILTER (WHERE kind = 'roll_over') AS rolled,
                   sum(microtokens) FILTER (WHERE kind = 'expire') AS expired
            FROM ledger_entry
            -- What a correction gave back later, and expired again, is none of its matter.
            WHERE kind IN ('roll_over', 'expire') AND operation_key = 'close:' || lot_id
            GROUP BY lot_id
        ) AS moved ON moved.lot_id = period.allotment_lot_id
        WHERE settlement.rolled_microtokens <> coalesce(moved.rolled, 0)
           OR settlement.expired_microtokens <> coalesce(moved.expired, 0)
    """,
        "what rolled over is in the lot that the settlement names": """
        SELECT settlement.period_id
        FROM billing_periodsettlement AS settlement
        JOIN billing_period AS period ON period.id = settlement.period_id
        LEFT JOIN ledger_lot AS lot ON lot.id = settlement.rolled_lot_id
        WHERE (settlement.rolled_microtokens > 0 OR settlement.rolled_lot_id IS NOT NULL)
          AND (lot.granted_microtokens, lot.price_micros, lot.rolled_from_lot_id)
              IS DISTINCT FROM (settlement.rolled_microtokens, settlement.rolled_micros,
                                period.allotment_lot_id)
    """,
        "a period's lots are its customer's, of its plan's size": """
        SELECT period.id
        FROM billing_period AS period
        JOIN billing_subscription AS subscription ON subscription.id = period.subscription_id
        JOIN billing_planversion AS version ON version.id = subscription.plan_version_id
        JOIN billing_customer AS customer ON customer.id = subscription.customer_id
        LEFT JOIN billing_sizeoption AS size ON size.id = subscription.size_id
        LEFT JOIN ledger_lot AS allotment ON allotment.id = period.allotment_lot_id
        LEFT JOIN ledger_lot AS overage ON overage.id = period.overage_lot_id
        LEFT JOIN billing_paidallotment AS paid ON paid.period_id = period.id
        LEFT JOIN ledger_lot AS granted ON granted.id = paid.lot_id
        WHERE (coalesce(allotment.granted_microtokens, granted.granted_microtokens, 0)
              <> coalesce(size.allotment_microtokens, version.allotment_microtokens)
              -- What waits for its payment is not there yet.
              AND NOT (version.grant_on_payment AND allotment.id IS NULL AND paid.id IS NULL))
           OR (paid.id IS NOT NULL AND (granted.account_id IS DISTINCT FROM customer.account_id
                                        OR allotment.id IS NOT NULL))
           OR (allotment.id IS NOT NULL AND allotment.account_id <> customer.account_id)
           OR (period.overage_lot_id IS NOT NULL
               AND (overage.account_id, overage.kind) IS DISTINCT FROM
                   (customer.account_id, 'overage'))
    """,
        "a change's further lot is its customer's, and as large and dear as the change says": """
        SELECT change.id
        FROM billing_planchange AS change
        JOIN billing_subscription AS subscription ON subscription.id = change.subscription_id
        JOIN billing_customer AS customer ON customer.id = subscription.customer_id
        LEFT JOIN ledger_lot AS lot ON lot.id = change.allotment_lot_id
        WHERE change.allotment_lot_id IS NOT NULL
          AND (lot.account_id, lot.granted_microtokens, lot.price_micros) IS DISTINCT FROM
              (customer.account_id, change.allotment_microtokens, change.allotment_micros)
    """,
        "a change is invoiced, or credited, as it says": """
        SELECT change.id
        FROM billing_planchange AS change
        LEFT JOIN (
            SELECT invoice_id, sum(micros) AS micros FROM billing_invoiceline
            WHERE kind IN ('fee_change', 'allotment_change') GROUP BY invoice_id
        ) AS line ON line.invoice_id = change.invoice_id
        LEFT JOIN billing_credit AS credit ON credit.key = 'change:' || change.subscription_id
        WHERE coalesce(line.micros, 0)
              <> greatest(change.fee_micros, 0) + change.allotment_micros
           OR abs(coalesce(credit.amount, 0) - greatest(-change.fee_micros, 0) / 1000000.0) > 0.5
    """,
        "no period is granted more than the largest plan that it had": """
        SELECT period.id
        FROM billing_period AS period
        JOIN (
            SELECT period_id, sum(allotment_microtokens) AS microtokens
            FROM billing_planchange GROUP BY period_id
        ) AS further ON further.period_id = period.id
        JOIN LATERAL (
            SELECT max(coalesce(size.allotment_microtokens, version.allotment_microtokens))
                   AS microtokens
            FROM billing_subscription AS subscription
            JOIN billing_planversion AS version ON version.id = subscription.plan_version_id
            LEFT JOIN billing_sizeoption AS size ON size.id = subscription.size_id
            WHERE subscription.id = period.subscription_id OR subscription.id IN (
                SELECT subscription_id FROM billing_planchange WHERE period_id = period.id)
        ) AS largest ON true
        LEFT JOIN ledger_lot AS lot ON lot.id = period.allotment_lot_id
        WHERE coalesce(lot.granted_microtokens, 0) + further.microtokens > largest.microtokens
    """,
        "a closing says what its invoice's overage comes to": """
        SELECT closing.period_id
        FROM billing_periodclosing AS closing
        LEFT JOIN (
            SELECT invoice_id, period_id, sum(microtokens) AS microtokens, sum(micros) AS micros
            FROM billing_invoiceline WHERE kind = 'overage' GROUP BY invoice_id, period_id
        ) AS line ON line.invoice_id = closing.invoice_id AND line.period_id = closing.period_id
        WHERE closing.overage_microtokens <> coalesce(line.microtokens, 0)
           OR closing.overage_micros <> coalesce(line.micros, 0)
    """,
        "a closed period has come to its commitment": """
        SELECT closing.period_id
        FROM billing_periodclosing AS closing
        JOIN billing_period AS period ON period.id = closing.period_id
        JOIN billing_subscription AS subscription ON subscription.id = period.subscription_id
        JOIN billing_customer AS customer ON customer.id = subscription.customer_id
        JOIN billing_planprice AS price
            ON price.version_id = subscription.plan_version_id
            AND price.currency = customer.currency
        LEFT JOIN (
            SELECT line.period_id, sum(line.amount + coalesce(used.amount, 0)) AS amount,
                   count(*) FILTER (WHERE kind = 'true_up') AS true_ups
            FROM billing_invoiceline AS line
            LEFT JOIN (
                SELECT line_id, sum(amount) AS amount FROM billing_credituse GROUP BY line_id
            ) AS used ON used.line_id = line.id
            WHERE kind IN ('platform_fee', 'seats', 'allotment', 'fee_change', 'allotment_change',
                           'overage', 'true_up')
            GROUP BY line.period_id
        ) AS line ON line.period_id = closing.period_id
        LEFT JOIN (
            SELECT period_id, sum(amount) AS amount FROM billing_credit
            WHERE reason <> 'overage' GROUP BY period_id
        ) AS credited ON credited.period_id = closing.period_id
        CROSS JOIN LATERAL (
            -- Of a period that ended before its term, what the time that it had comes to: rounded.
            SELECT price.commitment * extract(epoch FROM period.ends_at - period.starts_at)
                       / extract(epoch FROM period.term_ends_at - period.starts_at) AS amount,
                   CASE WHEN period.ends_at < period.term_ends_at THEN 1 ELSE 0 END AS tolerance
        ) AS committed
        WHERE coalesce(line.amount, 0) - coalesce(credited.amount, 0)
              < committed.amount - committed.tolerance
           OR (line.true_ups > 0 AND line.amount - coalesce(credited.amount, 0)
                                     > committed.amount + committed.tolerance)
    """,
        "no more of a credit is used up than was given, and by its customer's invoices": """
        SELECT credit.id
        FROM billing_credit AS credit
        JOIN billing_credituse AS used ON used.credit_id = credit.id
        JOIN billing_invoiceline AS line ON line.id = used.line_id
        JOIN billing_invoice AS invoice ON invoice.id = line.invoice_id
        JOIN billing_customer AS customer ON customer.id = credit.customer_id
        GROUP BY credit.id, customer.currency
        HAVING sum(used.amount) > credit.amount
            OR bool_or(invoice.customer_id <> credit.customer_id)
            OR bool_or(used.currency <> credit.currency) OR credit.currency <> customer.currency
    """,
        "a line asks for what it costs, less what credits paid of it": f"""
        SELECT line.id
        FROM billing_invoiceline AS line
        LEFT JOIN (
            SELECT line_id, sum(amount) AS amount FROM billing_credituse GROUP BY line_id
        ) AS used ON used.line_id = line.id
        WHERE abs(line.amount + coalesce(used.amount, 0) - line.micros / 1000000.0)
              > CASE WHEN line.currency IN ({WHOLE_CURRENCIES}) THEN 0.5 ELSE 0.005 END
    """,  # noqa: S608 - codes of our own
        "a closed period is settled": """
        SELECT closing.period_id
        FROM billing_periodclosing AS closing
        LEFT JOIN billing_periodsettlement AS settlement ON settlement.period_id = closing.period_id
        WHERE settlement.id IS NULL
    """,
        "an invoice is in its customer's currency, and so are its lines": """
        SELECT invoice.id
        FROM billing_invoice AS invoice
        JOIN billing_customer AS customer ON customer.id = invoice.customer_id
        LEFT JOIN billing_invoiceline AS line ON line.invoice_id = invoice.id
        WHERE invoice.currency <> customer.currency
           OR line.currency IS DISTINCT FROM invoice.currency
    """,
        "an invoice that is carried over was too small, and Stripe never hears of it": """
        SELECT carried.invoice_id
        FROM billing_invoicecarried AS carried
        LEFT JOIN billing_invoicefinalization AS finalization USING (invoice_id)
        LEFT JOIN billing_stripecall AS call
            ON call.aggregate_id = carried.invoice_id AND call.operation = 'invoice.create'
        WHERE finalization.id IS NOT NULL OR call.id IS NOT NULL
    """,
        "what was carried over stands on a later invoice of the same customer, to the cent": """
        SELECT line.id
        FROM billing_invoiceline AS line
        JOIN billing_invoice AS invoice ON invoice.id = line.invoice_id
        JOIN billing_invoice AS small ON small.id = line.carried_from_id
        LEFT JOIN billing_invoicecarried AS carried ON carried.invoice_id = small.id
        JOIN (
            SELECT invoice_id, sum(amount) AS amount FROM billing_invoiceline GROUP BY invoice_id
        ) AS owed ON owed.invoice_id = small.id
        WHERE carried.id IS NULL OR small.customer_id <> invoice.customer_id
           OR small.built_at > invoice.built_at OR line.amount <> owed.amount
    """,
        "a carried invoice waits for a next one, or stands on it": """
        SELECT small.id
        FROM billing_invoicecarried AS carried
        JOIN billing_invoice AS small ON small.id = carried.invoice_id
        JOIN billing_invoice AS later
            ON later.customer_id = small.customer_id AND later.built_at > small.built_at
        LEFT JOIN billing_invoiceline AS line ON line.carried_from_id = small.id
        WHERE line.id IS NULL
    """,
        "what Stripe issued before tax is the sum of the lines": """
        SELECT finalization.invoice_id
        FROM billing_invoicefinalization AS finalization
        LEFT JOIN (
            SELECT invoice_id, sum(amount) AS amount FROM billing_invoiceline GROUP BY invoice_id
        ) AS line USING (invoice_id)
        WHERE finalization.subtotal <> coalesce(line.amount, 0)
           OR finalization.total < finalization.subtotal
    """,
        "an invoice that is paid is paid whole": """
        SELECT payment.invoice_id
        FROM billing_invoicepayment AS payment
        LEFT JOIN billing_invoicefinalization AS finalization USING (invoice_id)
        LEFT JOIN (
            SELECT note.invoice_id, sum(issued.taken_off) AS amount
            FROM billing_creditnoteissued AS issued
            JOIN billing_creditnote AS note ON note.id = issued.credit_note_id
            LEFT JOIN billing_creditnotevoided AS voided USING (credit_note_id)
            WHERE voided.id IS NULL GROUP BY note.invoice_id
        ) AS credited USING (invoice_id)
        WHERE (payment.amount + coalesce(credited.amount, 0), payment.currency)
              IS DISTINCT FROM (finalization.total, finalization.currency)
    """,
    }
    | credit_notes.INVARIANTS
    | overage.INVARIANTS
    | reversals.INVARIANTS
    | paying.INVARIANTS
    | selling.INVARIANTS
    | proof.INVARIANTS
)

CHECKS: Final[dict[str, Callable[[], list[tuple[object, ...]]]]] = proof.CHECKS
NAMES: Final = (*INVARIANTS, *CHECKS)

Progress = Callable[[str], None]


def violations(*, progress: Progress = lambda name: None) -> dict[str, list[tuple[object, ...]]]:
    """Every invariant that does not hold, with at most BROKEN_ROWS_MAX rows that break it."""
    broken: dict[str, list[tuple[object, ...]]] = {}
    for name, statement in INVARIANTS.items():
        progress(name)
        with connection.cursor() as cursor:
            cursor.execute(f"{statement} LIMIT {BROKEN_ROWS_MAX}", [])
            if rows := cursor.fetchall():
                broken[name] = rows
    for name, check in CHECKS.items():
        progress(name)
        if found := check():
            broken[name] = found[:BROKEN_ROWS_MAX]
    return broken
