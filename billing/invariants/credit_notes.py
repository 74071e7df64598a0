"""Of credit notes, and the invoices they lessen."""

from typing import Final

INVARIANTS: Final[dict[str, str]] = {
    "no more of an invoice's line is credited than it asked for": """
        SELECT line.id
        FROM billing_creditnoteline AS credited
        JOIN billing_creditnote AS note ON note.id = credited.credit_note_id
        JOIN billing_invoiceline AS line ON line.id = credited.line_id
        LEFT JOIN billing_creditnoterefused AS refused ON refused.credit_note_id = note.id
        LEFT JOIN billing_creditnotevoided AS voided ON voided.credit_note_id = note.id
        WHERE refused.id IS NULL AND voided.id IS NULL
        GROUP BY line.id, line.amount, line.invoice_id
        HAVING sum(credited.amount) > line.amount OR bool_or(note.invoice_id <> line.invoice_id)
    """,
    "what Stripe credits before tax is the sum of the credit note's lines": """
        SELECT issued.credit_note_id
        FROM billing_creditnoteissued AS issued
        LEFT JOIN (
            SELECT credit_note_id, sum(amount) AS amount
            FROM billing_creditnoteline GROUP BY credit_note_id
        ) AS credited USING (credit_note_id)
        WHERE issued.subtotal <> coalesce(credited.amount, 0)
           OR issued.total <> issued.taken_off + issued.paid_back
    """,
    "credit notes of an invoice come to no more than the invoice": """
        SELECT note.invoice_id
        FROM billing_creditnoteissued AS issued
        JOIN billing_creditnote AS note ON note.id = issued.credit_note_id
        LEFT JOIN billing_invoicefinalization AS finalization USING (invoice_id)
        LEFT JOIN billing_creditnotevoided AS voided USING (credit_note_id)
        WHERE voided.id IS NULL
        GROUP BY note.invoice_id, finalization.total
        HAVING sum(issued.total) > coalesce(finalization.total, 0)
    """,
}
