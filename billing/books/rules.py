"""The posting rules: of each kind of fact, what is debited and what is credited.

A rule reads its things up to the end of a day: of each how much is to be booked of it in all
(`micros`), for which customer, and on which two accounts. That may grow from day to day (a lot that
is used), stand (an invoice that was issued), or fall back (an invoice given up, and paid after
all). What the books have of it already is no matter of the rule.

To book another kind of fact, add a rule here. Its `facts` are a query for these columns, or a
function that returns Standings:

    subject      which thing: a word and an id, unique in its rule
    customer_id, currency
    debit, credit  accounts of billing.books.chart
    micros       to be booked of it so far
    happened_on  when it happened, the day (UTC) that it belongs to
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from billing.books import fees, invoices, payments, tokens
from billing.books.standings import Day, Standing


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A kind of fact, in words, and where its things are read."""

    code: str
    title: str
    facts: str | Callable[[Day], Iterable[Standing]]


RULES: Final[tuple[Rule, ...]] = (
    Rule(code="granted", title="Tokens granted", facts=tokens.granted),
    Rule(code="used", title="Tokens used", facts=tokens.used),
    Rule(code="expired", title="Tokens expired", facts=tokens.expired),
    Rule(code="revoked", title="Tokens taken back", facts=tokens.revoked),
    Rule(code="overage", title="Overage used", facts=tokens.overage),
    Rule(code="fee_begun", title="Fees of a period", facts=fees.begun),
    Rule(code="fee_earned", title="Fees of a day", facts=fees.earned),
    Rule(code="invoiced", title="Invoice", facts=invoices.INVOICED),
    Rule(code="line_rounded", title="Invoice, rounded", facts=invoices.LINES_ROUNDED),
    Rule(code="covered", title="Late overage that a true-up has paid", facts=invoices.COVERED),
    Rule(code="credited", title="Credit given", facts=invoices.CREDITED),
    Rule(code="credit_rounded", title="Credit, rounded", facts=invoices.CREDITS_ROUNDED),
    Rule(code="kept", title="Overage given back that the commitment keeps", facts=invoices.KEPT),
    Rule(code="step_rounded", title="Overage given back, rounded", facts=invoices.STEPS_ROUNDED),
    Rule(code="credit_used", title="Credit set against an invoice", facts=invoices.CREDIT_USED),
    Rule(code="taxed", title="Tax on an invoice", facts=invoices.TAXED),
    Rule(code="paid", title="Invoice paid", facts=invoices.PAID),
    Rule(code="credit_noted", title="Credit note", facts=invoices.CREDIT_NOTED),
    Rule(code="voided", title="Invoice voided", facts=invoices.VOIDED),
    Rule(code="written_off", title="Invoice written off", facts=invoices.WRITTEN_OFF),
    Rule(code="top_up_paid", title="Top-up paid", facts=payments.TOP_UPS_PAID),
    Rule(code="refunded", title="Top-up refunded", facts=payments.REFUNDED),
    Rule(code="disputed", title="Payment disputed", facts=payments.DISPUTED),
    Rule(code="dispute_lost", title="Dispute lost", facts=payments.DISPUTES_LOST),
)
TITLES: Final = {rule.code: rule.title for rule in RULES}
