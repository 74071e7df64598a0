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

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from billing import money, terms
from billing.books import chart
from billing.models import InvoiceLine, Period, PlanChange, Subscription
from ledger.worths import LotWorth

# Periods that ended before this, and had been opened by then, are booked.
_LOOKED_BACK: Final = timedelta(days=3)


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """How much of a thing there is to book in all, up to the end of a day."""

    subject: str
    customer_id: int
    currency: str
    debit: str
    credit: str
    micros: int
    happened_on: date


@dataclass(frozen=True, kw_only=True)
class Day:
    """What rules read: a vendor's day, and its lots as they stand at the end of it."""

    vendor_id: int
    day: date
    customer_ids: Mapping[int, int]  # by account
    worths: Sequence[LotWorth]

    @property
    def starts_at(self) -> datetime:
        return datetime(self.day.year, self.day.month, self.day.day, tzinfo=UTC)

    @property
    def ends_at(self) -> datetime:
        return self.starts_at + timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A kind of fact, in words, and where its things are read."""

    code: str
    title: str
    facts: str | Callable[[Day], Iterable[Standing]]


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


def days_earned(*, starts_on: date, ends_on: date, day: date) -> tuple[int, int]:
    """Of a period's days, in its own calendar, how many are over with `day`; and how many it has.

    A day is a day, whether it has 23 hours or 25.
    """
    days = max((ends_on - starts_on).days, 1)
    return min(max((day - starts_on).days + 1, 0), days), days


def _tokens(
    day: Day, debit: str, credit: str, micros: Callable[[LotWorth], int]
) -> Iterator[Standing]:
    # What a lot had used is 0 again when all of it was given back: that is to be booked, too.
    for lot in day.worths:
        if is_in_books(lot, ends_at=day.ends_at):
            yield Standing(
                subject=f"lot:{lot.lot_id}",
                customer_id=day.customer_ids[lot.account_id],
                currency=lot.currency,
                debit=debit,
                credit=credit,
                micros=micros(lot),
                happened_on=day.day,
            )


def is_in_books(lot: LotWorth, *, ends_at: datetime) -> bool:
    """Tokens of a period to come are nobody's yet."""
    return lot.effective_at < ends_at or lot.out_microtokens > 0


def _granted(day: Day) -> Iterator[Standing]:
    effective_on = {
        f"lot:{lot.lot_id}": lot.effective_at.astimezone(UTC).date() for lot in day.worths
    }

    def price(lot: LotWorth) -> int:
        # What rolled over was granted before: it stays deferred.
        return lot.price_micros if lot.rolled_from_lot_id is None else 0

    for one in _tokens(day, chart.UNBILLED_TOKENS, chart.DEFERRED_TOKENS, price):
        yield replace(one, happened_on=effective_on[one.subject])


def _used(day: Day) -> Iterator[Standing]:
    return _tokens(
        day,
        chart.DEFERRED_TOKENS,
        chart.REVENUE_TOKENS,
        lambda lot: lot.used_micros if lot.kind == "prepaid" else 0,
    )


def _expired(day: Day) -> Iterator[Standing]:
    return _tokens(day, chart.DEFERRED_TOKENS, chart.BREAKAGE, lambda lot: lot.expired_micros)


def _revoked(day: Day) -> Iterator[Standing]:
    return _tokens(day, chart.DEFERRED_TOKENS, chart.REFUNDS, lambda lot: lot.revoked_micros)


def _overage(day: Day) -> Iterator[Standing]:
    return _tokens(
        day,
        chart.UNBILLED_OVERAGE,
        chart.REVENUE_OVERAGE,
        lambda lot: lot.used_micros if lot.kind == "overage" else 0,
    )


@dataclass(frozen=True, kw_only=True)
class _Fee:
    """What a span of days earns: a period's fees, or what a change makes of them for its rest."""

    subject: str
    period: Period
    starts_at: datetime
    micros: int

    @property
    def starts_on(self) -> date:
        return self._local(self.starts_at)

    def earned(self, day: date) -> int:
        ends_on = self._local(self.period.ends_at)
        over, days = days_earned(starts_on=self.starts_on, ends_on=ends_on, day=day)
        return self.micros * over // days

    def standing(self, debit: str, credit: str, micros: int, happened_on: date) -> Standing:
        customer = self.period.subscription.customer
        return Standing(
            subject=self.subject,
            customer_id=customer.pk,
            currency=customer.currency,
            debit=debit,
            credit=credit,
            micros=micros,
            happened_on=happened_on,
        )

    def _local(self, at: datetime) -> date:
        return at.astimezone(ZoneInfo(self.period.subscription.time_zone)).date()


def _fees(day: Day) -> Iterator[_Fee]:
    """Fees of the days around this one, by the customer's own calendar."""
    recently = day.starts_at - _LOOKED_BACK
    own = Period.objects.filter(
        subscription__customer__vendor_id=day.vendor_id,
        starts_at__lt=day.ends_at + timedelta(days=1),
    )
    around = own.filter(ends_at__gte=recently) | own.filter(opened_at__gte=recently)
    subscribed = ("subscription__plan_version", "subscription__size", "subscription__customer")
    for period in around.select_related(*subscribed):
        yield _Fee(
            subject=f"period:{period.pk}",
            period=period,
            starts_at=period.starts_at,
            micros=_fee_of(period.subscription),
        )
    changed = PlanChange.objects.filter(period__in=around).select_related(
        "period__subscription__customer"
    )
    for change in changed.filter(changed_at__lt=day.ends_at):
        yield _Fee(
            subject=f"change:{change.pk}",
            period=change.period,
            starts_at=change.changed_at,
            micros=change.fee_micros,
        )


def _fee_of(subscription: Subscription) -> int:
    """Platform fee and seats of a period."""
    billed_by = terms.of(subscription=subscription)
    seats = subscription.seats * money.to_micros(billed_by.seat_price)
    return money.to_micros(billed_by.platform_fee) + seats


def _fees_begun(day: Day) -> Iterator[Standing]:
    for fee in _fees(day):
        if fee.starts_on <= day.day:
            yield fee.standing(chart.UNBILLED_FEES, chart.DEFERRED_FEES, fee.micros, fee.starts_on)


def _fees_earned(day: Day) -> Iterator[Standing]:
    for fee in _fees(day):
        yield fee.standing(chart.DEFERRED_FEES, chart.REVENUE_FEES, fee.earned(day.day), day.day)


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
_INVOICED: Final = f"""
    SELECT 'invoice_line:' || line.id AS subject, issued.customer_id, line.currency,
           CASE WHEN is_carried THEN 'carried' ELSE 'receivable' END AS debit,
           account_of.account AS credit, (line.amount * 1000000)::bigint AS micros,
           (issued_at AT TIME ZONE 'UTC')::date AS happened_on
    FROM ({_ISSUED}) AS issued
    JOIN billing_invoiceline AS line ON line.invoice_id = issued.id
    JOIN {_ACCOUNTS} ON account_of.kind = line.kind
"""  # noqa: S608  constants
_LINES_ROUNDED: Final = f"""
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
_COVERED: Final = f"""
    SELECT 'invoice_line:' || line.id AS subject, issued.customer_id, line.currency,
           'revenue_commitments' AS debit, 'unbilled_overage' AS credit,
           line.covered_micros AS micros, (issued_at AT TIME ZONE 'UTC')::date AS happened_on
    FROM ({_ISSUED}) AS issued
    JOIN billing_invoiceline AS line ON line.invoice_id = issued.id
"""  # noqa: S608
_CREDITED: Final = """
    SELECT 'credit:' || credit.id AS subject, customer.id AS customer_id, credit.currency,
           CASE credit.reason WHEN 'change' THEN 'unbilled_fees'
                WHEN 'overage' THEN 'unbilled_overage' ELSE 'credited' END AS debit,
           'credits' AS credit, (credit.amount * 1000000)::bigint AS micros,
           (credit.recorded_at AT TIME ZONE 'UTC')::date AS happened_on
    FROM billing_credit AS credit
    JOIN billing_customer AS customer
        ON customer.id = credit.customer_id AND customer.vendor_id = %(vendor_id)s
    WHERE credit.recorded_at < %(ends_at)s
"""
# A change that costs less takes fees back exactly (fee_begun); its credit is rounded.
_CREDITS_ROUNDED: Final = """
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
_KEPT: Final = f"""
    SELECT 'overage_step:' || step.id AS subject, customer.id AS customer_id, customer.currency,
           'unbilled_overage' AS debit, 'revenue_commitments' AS credit, step.kept_micros AS micros,
           (step.billed_at AT TIME ZONE 'UTC')::date AS happened_on
    {_STEPS_DOWN}
"""
_STEPS_ROUNDED: Final = f"""
    SELECT 'overage_step:' || step.id AS subject, customer.id AS customer_id, customer.currency,
           'rounding' AS debit, 'unbilled_overage' AS credit,
           (coalesce(credit.amount, 0) * 1000000)::bigint + step.micros + step.kept_micros
               AS micros,
           (step.billed_at AT TIME ZONE 'UTC')::date AS happened_on
    {_STEPS_DOWN}
"""
_CREDIT_USED: Final = f"""
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
_TAXED: Final = f"""
    SELECT 'invoice:' || invoice.id AS subject, customer.id AS customer_id, invoice.currency,
           'receivable' AS debit, 'tax' AS credit,
           ((finalization.total - finalization.subtotal) * 1000000)::bigint AS micros,
           (finalization.finalized_at AT TIME ZONE 'UTC')::date AS happened_on
    FROM {_FINALIZED}
    WHERE finalization.finalized_at < %(ends_at)s
"""  # noqa: S608
_PAID: Final = """
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
# What is void is not owed. What is uncollectible is an expense, unless it is paid after all.
_VOIDED: Final = f"""
    SELECT 'invoice:' || invoice.id || part.suffix AS subject, customer.id AS customer_id,
           invoice.currency, part.account AS debit, 'receivable' AS credit,
           (part.amount * 1000000)::bigint AS micros,
           (given_up.given_up_at AT TIME ZONE 'UTC')::date AS happened_on
    FROM {_FINALIZED}
    JOIN billing_invoicegivenup AS given_up
        ON given_up.invoice_id = invoice.id AND given_up.kind = 'void'
    CROSS JOIN LATERAL (VALUES
        ('', 'voided', finalization.subtotal),
        (':tax', 'tax', finalization.total - finalization.subtotal)
    ) AS part (suffix, account, amount)
    WHERE given_up.given_up_at < %(ends_at)s
"""  # noqa: S608
_WRITTEN_OFF: Final = f"""
    SELECT 'invoice:' || invoice.id AS subject, customer.id AS customer_id, invoice.currency,
           'written_off' AS debit, 'receivable' AS credit,
           CASE WHEN after_all.at IS NULL THEN (finalization.total * 1000000)::bigint ELSE 0 END
               AS micros,
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
    WHERE given_up.given_up_at < %(ends_at)s
"""  # noqa: S608
# Checkout takes the money and its tax at once; the lot is granted as any other.
_TOP_UPS_PAID: Final = """
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

RULES: Final[tuple[Rule, ...]] = (
    Rule(code="granted", title="Tokens granted", facts=_granted),
    Rule(code="used", title="Tokens used", facts=_used),
    Rule(code="expired", title="Tokens expired", facts=_expired),
    Rule(code="revoked", title="Tokens taken back", facts=_revoked),
    Rule(code="overage", title="Overage used", facts=_overage),
    Rule(code="fee_begun", title="Fees of a period", facts=_fees_begun),
    Rule(code="fee_earned", title="Fees of a day", facts=_fees_earned),
    Rule(code="invoiced", title="Invoice", facts=_INVOICED),
    Rule(code="line_rounded", title="Invoice, rounded", facts=_LINES_ROUNDED),
    Rule(code="covered", title="Late overage that a true-up has paid", facts=_COVERED),
    Rule(code="credited", title="Credit given", facts=_CREDITED),
    Rule(code="credit_rounded", title="Credit, rounded", facts=_CREDITS_ROUNDED),
    Rule(code="kept", title="Overage given back that the commitment keeps", facts=_KEPT),
    Rule(code="step_rounded", title="Overage given back, rounded", facts=_STEPS_ROUNDED),
    Rule(code="credit_used", title="Credit set against an invoice", facts=_CREDIT_USED),
    Rule(code="taxed", title="Tax on an invoice", facts=_TAXED),
    Rule(code="paid", title="Invoice paid", facts=_PAID),
    Rule(code="voided", title="Invoice voided", facts=_VOIDED),
    Rule(code="written_off", title="Invoice written off", facts=_WRITTEN_OFF),
    Rule(code="top_up_paid", title="Top-up paid", facts=_TOP_UPS_PAID),
)
TITLES: Final = {rule.code: rule.title for rule in RULES}
