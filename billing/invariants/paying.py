"""Of how customers pay: cards, tokens that buy themselves, and what is not paid."""

from typing import Final

INVARIANTS: Final[dict[str, str]] = {
    "what is bought by itself in a month stays under the customer's ceiling": """
        SELECT charge.id
        FROM billing_topupcharge AS charge
        JOIN billing_autotopup AS auto ON auto.id = charge.auto_top_up_id
        JOIN billing_topupcharge AS other
            ON (other.customer_id, other.month) = (charge.customer_id, charge.month)
           AND other.id <= charge.id AND other.failed_at IS NULL
        JOIN billing_topup AS top_up ON top_up.id = other.top_up_id
        WHERE charge.failed_at IS NULL
        GROUP BY charge.id, auto.ceiling
        HAVING sum(top_up.price) > auto.ceiling
    """,
    "a charge that is under way or went well is as its top-up is": """
        SELECT charge.id
        FROM billing_topupcharge AS charge
        LEFT JOIN billing_topupfulfilment AS fulfilment USING (top_up_id)
        WHERE charge.failed_at IS NULL
          AND (charge.ended_at IS NULL) <> (fulfilment.id IS NULL)
    """,
    "a charge, its top-up, its terms and its card are one customer's": """
        SELECT charge.id
        FROM billing_topupcharge AS charge
        JOIN billing_topup AS top_up ON top_up.id = charge.top_up_id
        JOIN billing_autotopup AS auto ON auto.id = charge.auto_top_up_id
        JOIN billing_paymentmethod AS method ON method.id = charge.method_id
        WHERE charge.customer_id <> ALL (ARRAY[
            top_up.customer_id, auto.customer_id, method.customer_id])
           OR top_up.customer_id <> auto.customer_id OR auto.customer_id <> method.customer_id
    """,
    "a declined charge pauses what it was made for, and nothing else does": """
        SELECT charge.id
        FROM billing_topupcharge AS charge
        LEFT JOIN billing_autotopuppause AS pause ON pause.charge_id = charge.id
        WHERE (charge.failed_at IS NULL) <> (pause.id IS NULL)
           OR pause.auto_top_up_id <> charge.auto_top_up_id
    """,
    "what a customer is charged with is its own": """
        SELECT choice.id
        FROM billing_paymentmethodchoice AS choice
        JOIN billing_paymentmethod AS method ON method.id = choice.method_id
        WHERE method.customer_id <> choice.customer_id
    """,
    "a card that was given is its giver's": """
        SELECT setup.id
        FROM billing_cardsetup AS setup
        JOIN billing_paymentmethod AS method ON method.id = setup.method_id
        WHERE method.customer_id <> setup.customer_id
    """,
    "an account gets no new holds exactly while its customer is restricted": """
        SELECT customer.id
        FROM billing_customer AS customer
        JOIN ledger_standing AS standing ON standing.account_id = customer.account_id
        WHERE (standing.overdue_since IS NOT NULL) <> EXISTS (
            SELECT FROM billing_restriction AS restriction
            WHERE restriction.customer_id = customer.id AND restriction.lifted_at IS NULL)
    """,
    "what is paid or void restricts nobody": """
        SELECT restriction.id
        FROM billing_restriction AS restriction
        LEFT JOIN billing_invoicepayment AS payment USING (invoice_id)
        LEFT JOIN billing_invoicegivenup AS void
            ON void.invoice_id = restriction.invoice_id AND void.kind = 'void'
        WHERE restriction.lifted_at IS NULL AND (payment.id IS NOT NULL OR void.id IS NOT NULL)
    """,
    "an invoice restricts its own customer, and nobody without a last notice": """
        SELECT restriction.id
        FROM billing_restriction AS restriction
        JOIN billing_invoice AS invoice ON invoice.id = restriction.invoice_id
        LEFT JOIN billing_dunningstep AS step
            ON step.invoice_id = invoice.id AND step.kind = 'last_notice'
           AND step.taken_at < restriction.restricted_at
        WHERE invoice.customer_id <> restriction.customer_id OR step.id IS NULL
    """,
}
