"""Invoices: which lines, what they come to, and what Stripe reported of them.

An invoice is built once for its occasion, with all its lines and the first call to Stripe, in one
transaction. Each line carries its exact cost and its amount, which is that cost rounded once.
Stripe only repeats our amounts; it computes none but the tax.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from django.db import transaction
from django.db.models import Exists, Max, OuterRef, Q, QuerySet
from djmoney.money import Money

from billing import crediting, explain, money, periods, pricing, reversals, terms
from billing.models import (
    Customer,
    Invoice,
    InvoiceCarried,
    InvoiceFinalization,
    InvoiceGivenUp,
    InvoiceLine,
    InvoicePayment,
    InvoicePaymentFailure,
    Period,
    Subscription,
)
from billing.pricing import OveragePart
from billing.stripe import calls
from ledger import queries
from ledger.value import Tiers

LINES_PER_INVOICE_MAX = 250  # Stripe's limit
PERIODS_PER_PAGE = 500
ONCE_A_PERIOD = (Invoice.Occasion.OPENING, Invoice.Occasion.CLOSING)
# What of a period is paid in advance counts towards its commitment, and so does what changes it.
PREPAID_KINDS = (
    InvoiceLine.Kind.PLATFORM_FEE,
    InvoiceLine.Kind.SEATS,
    InvoiceLine.Kind.ALLOTMENT,
    InvoiceLine.Kind.FEE_CHANGE,
    InvoiceLine.Kind.ALLOTMENT_CHANGE,
)
OVERAGE_KINDS = (InvoiceLine.Kind.OVERAGE, InvoiceLine.Kind.LATE_OVERAGE)


@dataclass(frozen=True, kw_only=True)
class NewLine:
    """A line before it stands on an invoice."""

    kind: str
    period: Period
    description: str
    micros: int
    microtokens: int | None = None
    from_microtokens: int | None = None
    covered_micros: int = 0
    carried_from: Invoice | None = None


@dataclass(frozen=True, kw_only=True)
class DrawnUp:
    """An invoice as it would be built now; its rows are not written."""

    invoice: Invoice
    lines: tuple[InvoiceLine, ...]  # as credits have made them
    credited: tuple[crediting.Set, ...]

    @property
    def total(self) -> Money:
        return sum((line.amount for line in self.lines), start=Money(0, self.invoice.currency))

    @property
    def is_too_small(self) -> bool:
        """Whether nobody would be told of it: it would be carried over to the next."""
        least = money.least_charged(self.invoice.currency)
        return Money(0, self.invoice.currency) < self.total < least


def build(
    *, period: Period, occasion: str, lines: Sequence[NewLine], at: datetime
) -> Invoice | None:
    """Make the invoice of an occasion, and the call that tells Stripe; None without lines.

    What earlier invoices were too small to be charged for stands on it, and what the customer has
    coming makes its lines smaller (billing.crediting). If it is too small itself nobody is told of
    it: it is carried over to the next. Building it again returns the invoice that stands. There may
    be several late ones, whose lines are what no invoice has yet, and one for each change.
    """
    with transaction.atomic():
        known = None
        if occasion in ONCE_A_PERIOD:
            known = Invoice.objects.filter(period=period, occasion=occasion).first()
        if known is not None or not lines:
            return known
        # Two invoices of a customer must not both take in what was carried over.
        list(_carried(period.subscription.customer).select_for_update(of=("self",), no_key=True))
        crediting.lock(customer=period.subscription.customer)
        drawn_up = draw_up(period=period, occasion=occasion, lines=lines, at=at)
        invoice = drawn_up.invoice
        invoice.save(force_insert=True)
        InvoiceLine.objects.bulk_create(drawn_up.lines)
        crediting.write_uses(sets=drawn_up.credited, lines=drawn_up.lines)
        if drawn_up.is_too_small:
            InvoiceCarried.objects.create(invoice=invoice, carried_at=at)
        else:
            calls.write_invoice_create(invoice=invoice, at=at)
        return invoice


def draw_up(*, period: Period, occasion: str, lines: Sequence[NewLine], at: datetime) -> DrawnUp:
    """The invoice that `build` would make of these lines, with what was carried over before them.

    Writes nothing. Without lines there would be no invoice: then it has none.
    """
    customer = period.subscription.customer
    invoice = Invoice(
        customer=customer,
        period=period,
        occasion=occasion,
        currency=customer.currency,
        built_at=at,
    )
    standing = [*_carried_lines(customer), *lines] if lines else []
    assert len(standing) <= LINES_PER_INVOICE_MAX
    written = [_line(invoice, position, line) for position, line in enumerate(standing, start=1)]
    credited = crediting.set_against(
        customer=customer,
        amounts=[
            Money(0, invoice.currency) if line.kind == InvoiceLine.Kind.CARRIED else line.amount
            for line in written
        ],
    )
    for position, line in enumerate(written):
        parts = [part.amount for part in credited if part.position == position]
        if parts:
            paid = sum(parts[1:], start=parts[0])
            line.amount -= paid
            line.description += f" ({money.text(paid)} of it paid by credit)"
    return DrawnUp(invoice=invoice, lines=tuple(written), credited=tuple(credited))


def lines_in_advance(*, period: Period) -> list[NewLine]:
    """Platform fee, seats and allotment of a period, unless they have been invoiced already.

    The period may be one that nobody has opened yet.
    """
    billed_by = terms.of(subscription=period.subscription)
    billed = set(InvoiceLine.objects.filter(period_id=period.pk).values_list("kind", flat=True))
    span = _span_text(period)
    lines = []
    if billed_by.platform_fee.amount and InvoiceLine.Kind.PLATFORM_FEE not in billed:
        lines.append(
            NewLine(
                kind=InvoiceLine.Kind.PLATFORM_FEE,
                period=period,
                description=f"Platform fee, {span}",
                micros=money.to_micros(billed_by.platform_fee),
            )
        )
    seats = period.subscription.seats
    if billed_by.seat_price.amount and InvoiceLine.Kind.SEATS not in billed:
        lines.append(
            NewLine(
                kind=InvoiceLine.Kind.SEATS,
                period=period,
                description=(
                    f"{seats} seat{'' if seats == 1 else 's'}"
                    f" at {money.text(billed_by.seat_price)}, {span}"
                ),
                micros=money.to_micros(billed_by.seat_price) * seats,
            )
        )
    if billed_by.allotment_price.amount and InvoiceLine.Kind.ALLOTMENT not in billed:
        granted = explain.tokens(billed_by.allotment_microtokens)
        lines.append(
            NewLine(
                kind=InvoiceLine.Kind.ALLOTMENT,
                period=period,
                description=f"Allotment of {granted}, {span}",
                micros=money.to_micros(billed_by.allotment_price),
                microtokens=billed_by.allotment_microtokens,
            )
        )
    return lines


def _carried(customer: Customer) -> QuerySet[Invoice]:
    """Invoices that were too small to be charged, and stand on no later one yet."""
    return Invoice.objects.filter(
        customer=customer, carried__isnull=False, carried_to__isnull=True
    ).order_by("built_at", "id")


def _carried_lines(customer: Customer) -> list[NewLine]:
    return [
        NewLine(
            kind=InvoiceLine.Kind.CARRIED,
            period=invoice.period,
            description=f"Carried over: too little to be charged, {_span_text(invoice.period)}",
            # As it was rounded then: whoever adds the invoices up finds every cent once.
            micros=sum(money.to_micros(line.amount) for line in invoice.lines.all()),
            carried_from=invoice,
        )
        for invoice in _carried(customer)
        .select_related("period__subscription")
        .prefetch_related("lines")
    ]


def overage_lines(*, period: Period, kind: str) -> list[NewLine]:
    """The period's overage that stands on no invoice yet: graduated, a line for each tier."""
    billed_by = terms.of(subscription=period.subscription)
    if period.overage_lot_id is None or billed_by.tiers is None:
        return []
    billed = overage_billed(period=period)
    parts = pricing.overage_parts(
        tiers=billed_by.tiers,
        from_microtokens=billed,
        # A run that was given back after its invoice leaves less used than billed.
        to_microtokens=max(overage_used(period=period), billed),
    )
    late = " that came in late" if kind == InvoiceLine.Kind.LATE_OVERAGE else ""
    told = f"Overage{late}, {_span_text(period)}"
    return [
        NewLine(
            kind=kind,
            period=period,
            description=f"{told}: {_overage_text(billed_by.tiers, part, billed_by.currency)}",
            micros=part.micros,
            microtokens=part.microtokens,
            from_microtokens=part.from_microtokens,
        )
        for part in parts
    ]


def _overage_text(tiers: Tiers, part: OveragePart, currency: str) -> str:
    return explain.overage_text(tiers=tiers, part=part, currency=currency)


def true_up_lines(*, period: Period, overage: Sequence[NewLine]) -> list[NewLine]:
    """What the period lacks of its commitment, with this overage: a line, if it is something.

    Top-ups are bought beside the plan and do not count. Of a period that ends before its term the
    commitment is for the share of time that it had.
    """
    commitment = _commitment(period)
    invoiced = InvoiceLine.objects.filter(period=period, kind__in=PREPAID_KINDS)
    spent = -crediting.given_for(period=period)
    for micros in [*(line.micros for line in invoiced), *(line.micros for line in overage)]:
        spent += money.rounded(micros, commitment.currency.code)
    if spent >= commitment:
        return []
    return [
        NewLine(
            kind=InvoiceLine.Kind.TRUE_UP,
            period=period,
            description=(
                f"True-up to the commitment of {money.text(commitment)}, {_span_text(period)}"
            ),
            micros=money.to_micros(commitment - spent),
        )
    ]


def _commitment(period: Period) -> Money:
    whole = terms.of(subscription=period.subscription).commitment
    micros = money.to_micros(whole)
    unspent = periods.share_left(
        micros, starts_at=period.starts_at, ends_at=period.term_ends_at, at=period.ends_at
    )
    return money.rounded(micros - unspent, whole.currency.code)


def _covered(*, period: Period, late: Sequence[NewLine]) -> list[NewLine]:
    """Late lines of a period whose true-up has paid for them already, in whole or in part."""
    of_period = InvoiceLine.objects.filter(period=period)
    true_up = of_period.filter(kind=InvoiceLine.Kind.TRUE_UP).first()
    if true_up is None:
        return list(late)
    left = true_up.micros - sum(of_period.values_list("covered_micros", flat=True))
    lines = []
    for line in late:
        covered = min(left, line.micros)
        left -= covered
        if covered:
            paid = money.price_text(covered, true_up.currency)
            line = replace(
                line,
                micros=line.micros - covered,
                covered_micros=covered,
                description=f"{line.description} ({paid} of it paid by the true-up)",
            )
        lines.append(line)
    return lines


def late_lines(*, customer: Customer) -> list[NewLine]:
    """Overage of the customer's closed periods that came after their invoices."""
    reached = {
        lot.id: lot.out_microtokens
        for lot in queries.lots(account_ids=[customer.account_id])
        if lot.kind == "overage"
    }
    closed = (
        Period.objects.filter(
            subscription__customer=customer, closing__isnull=False, overage_lot_id__isnull=False
        )
        .select_related("subscription__plan_version", "closing")
        .order_by("starts_at", "id")
    )
    return [
        line
        for period in closed
        if reached[period.overage_lot_id or 0] > period.closing.overage_microtokens
        for line in _covered(
            period=period, late=overage_lines(period=period, kind=InvoiceLine.Kind.LATE_OVERAGE)
        )
    ]


def customers_left_late() -> Iterator[int]:
    """Customers for whom no closing is to come, but who have overage that stands on no invoice."""
    to_come = Period.objects.filter(
        subscription__customer=OuterRef("subscription__customer"), closing__isnull=True
    )
    subscribed = Subscription.objects.filter(
        customer=OuterRef("subscription__customer"), cancelled_at__isnull=True
    )
    left = (
        Period.objects.filter(
            ~Exists(to_come),
            ~Exists(subscribed),
            closing__isnull=False,
            overage_lot_id__isnull=False,
        )
        .annotate(
            billed=Max(
                "invoice_lines__to_microtokens",
                filter=Q(invoice_lines__kind__in=OVERAGE_KINDS),
                default=0,
            )
        )
        .order_by("id")
        .values_list(
            *("id", "billed", "overage_lot_id", "subscription__customer_id"),
            "subscription__customer__account_id",
        )
    )
    told: set[int] = set()
    page = list(left[:PERIODS_PER_PAGE])
    while page:
        consumed = queries.all_consumed(lots={lot_id: account for _, _, lot_id, _, account in page})
        for _, billed, lot_id, customer_id, _ in page:
            if consumed[lot_id] > billed and customer_id not in told:
                told.add(customer_id)
                yield customer_id
        page = list(left.filter(id__gt=page[-1][0])[:PERIODS_PER_PAGE])


def overage_used(*, period: Period) -> int:
    """Microtokens of overage that runs of the period have used so far."""
    if period.overage_lot_id is None:
        return 0
    account_id = period.subscription.customer.account_id
    return queries.consumed(lot_id=period.overage_lot_id, account_id=account_id)


def overage_billed(*, period: Period) -> int:
    """Up to where the period's overage stands on invoices."""
    lines = InvoiceLine.objects.filter(period=period, kind__in=OVERAGE_KINDS)
    return lines.aggregate(until=Max("to_microtokens"))["until"] or 0


def state(*, invoice: Invoice) -> str:
    """In one word: paid (then disputed, or lost to a dispute), void, uncollectible, failed (a card
    was declined), open, preparing, or carried (too small to be charged: it stands on the next)."""
    given_up = {row.kind for row in invoice.given_up.all()}
    if hasattr(invoice, "payment"):
        return _state_of_paid(invoice)
    for kind in (InvoiceGivenUp.Kind.VOID, InvoiceGivenUp.Kind.UNCOLLECTIBLE):
        if kind in given_up:
            return kind.value
    if hasattr(invoice, "carried"):
        return "carried"
    if not hasattr(invoice, "finalization"):
        return "preparing"
    return "failed" if invoice.payment_failures.all() else "open"


def _state_of_paid(invoice: Invoice) -> str:
    statuses = {reversals.status_of(dispute) for dispute in invoice.disputes.all()}
    if reversals.LOST in statuses:
        return "lost"
    return "disputed" if any(map(reversals.holds_money, statuses)) else "paid"


def record_finalization(
    *,
    invoice: Invoice,
    stripe_invoice_id: str,
    number: str,
    hosted_url: str,
    subtotal: Money,
    total: Money,
    finalized_at: datetime,
) -> None:
    """Stripe has issued the invoice. Told again, nothing changes."""
    InvoiceFinalization.objects.get_or_create(
        invoice=invoice,
        defaults={
            "stripe_invoice_id": stripe_invoice_id,
            "number": number,
            "hosted_url": hosted_url,
            "subtotal": subtotal,
            "total": total,
            "finalized_at": finalized_at,
        },
    )


def record_payment(*, invoice: Invoice, amount: Money, paid_at: datetime) -> None:
    """The invoice is paid. Told again, nothing changes."""
    InvoicePayment.objects.get_or_create(
        invoice=invoice, defaults={"amount": amount, "paid_at": paid_at}
    )


def record_payment_failure(
    *, invoice: Invoice, reference: str, code: str, message: str, at: datetime
) -> None:
    """A charge of the card was declined. Told again of the same charge, nothing changes."""
    InvoicePaymentFailure.objects.get_or_create(
        invoice=invoice,
        reference=reference,
        defaults={"code": code, "message": message, "failed_at": at},
    )


def record_given_up(*, invoice: Invoice, kind: str, given_up_at: datetime) -> None:
    """The vendor voided the invoice, or wrote it off. Told again, nothing changes."""
    InvoiceGivenUp.objects.get_or_create(
        invoice=invoice, kind=kind, defaults={"given_up_at": given_up_at}
    )


def _line(invoice: Invoice, position: int, line: NewLine) -> InvoiceLine:
    to_microtokens = None
    if line.from_microtokens is not None:
        assert line.microtokens is not None
        to_microtokens = line.from_microtokens + line.microtokens
    return InvoiceLine(
        invoice=invoice,
        position=position,
        kind=line.kind,
        period=line.period,
        description=line.description,
        microtokens=line.microtokens,
        from_microtokens=line.from_microtokens,
        to_microtokens=to_microtokens,
        micros=line.micros,
        covered_micros=line.covered_micros,
        carried_from=line.carried_from,
        amount=money.rounded(line.micros, invoice.currency),
    )


def _span_text(period: Period) -> str:
    return periods.span_text(
        starts_at=period.starts_at,
        ends_at=period.ends_at,
        time_zone=period.subscription.time_zone,
    )
