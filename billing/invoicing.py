"""Invoices: which lines, what they come to, and what Stripe reported of them.

An invoice is built once for its occasion, with all its lines and the first call to Stripe, in one
transaction. Each line carries its exact cost and its amount, which is that cost rounded once.
Stripe only repeats our amounts; it computes none but the tax.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from djmoney.money import Money

from billing import (
    allotments,
    crediting,
    customers,
    dunning,
    explain,
    money,
    periods,
    reversals,
    terms,
)
from billing.models import (
    Credit,
    Customer,
    Invoice,
    InvoiceCarried,
    InvoiceFinalization,
    InvoiceGivenUp,
    InvoiceLine,
    InvoicePayment,
    InvoicePaymentFailure,
    Period,
)
from billing.stripe import calls

LINES_PER_INVOICE_MAX = 250  # Stripe's limit
ONCE_A_PERIOD = (Invoice.Occasion.OPENING, Invoice.Occasion.CLOSING)
# What of a period is paid in advance counts towards its commitment, and so does what changes it.
PREPAID_KINDS = (
    InvoiceLine.Kind.PLATFORM_FEE,
    InvoiceLine.Kind.SEATS,
    InvoiceLine.Kind.ALLOTMENT,
    InvoiceLine.Kind.FEE_CHANGE,
    InvoiceLine.Kind.ALLOTMENT_CHANGE,
)


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
        # Two invoices must not both take in what was carried over, or use up the same credit.
        customers.lock(customer_id=period.subscription.customer_id)
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


def draw_up(
    *,
    period: Period,
    occasion: str,
    lines: Sequence[NewLine],
    to_come: Sequence[Credit] = (),
    at: datetime,
) -> DrawnUp:
    """The invoice that `build` would make of these lines, with what was carried over before them.

    Credits `to_come` are those that would be given beside it. Writes nothing. Without lines there
    would be no invoice: then it has none.
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
        to_come=to_come,
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
    span = span_text(period)
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


def _carried_lines(customer: Customer) -> list[NewLine]:
    """Invoices that were too small to be charged, and stand on no later one yet."""
    carried = Invoice.objects.filter(
        customer=customer, carried__isnull=False, carried_to__isnull=True
    ).order_by("built_at", "id")
    return [
        NewLine(
            kind=InvoiceLine.Kind.CARRIED,
            period=invoice.period,
            description=f"Carried over: too little to be charged, {span_text(invoice.period)}",
            # As it was rounded then: whoever adds the invoices up finds every cent once.
            micros=sum(money.to_micros(line.amount) for line in invoice.lines.all()),
            carried_from=invoice,
        )
        for invoice in carried.select_related("period__subscription").prefetch_related("lines")
    ]


def true_up_lines(*, period: Period, overage: Sequence[NewLine]) -> list[NewLine]:
    """What the period lacks of its commitment, with this overage: a line, if it is something.

    Top-ups are bought beside the plan and do not count. Of a period that ends before its term the
    commitment is for the share of time that it had.
    """
    commitment = commitment_of(period=period)
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
                f"True-up to the commitment of {money.text(commitment)}, {span_text(period)}"
            ),
            micros=money.to_micros(commitment - spent),
        )
    ]


def commitment_of(*, period: Period) -> Money:
    """Of a period that is cut short, the part of its days."""
    whole = terms.of(subscription=period.subscription).commitment
    micros = money.to_micros(whole)
    unspent = periods.share_left(
        micros, starts_at=period.starts_at, ends_at=period.term_ends_at, at=period.ends_at
    )
    return money.rounded(micros - unspent, whole.currency.code)


def state(*, invoice: Invoice) -> str:
    """In one word: paid (then disputed, lost to a dispute, or credited whole), void, uncollectible,
    failed (a card was declined), open, preparing, or carried (too small to be charged: it stands on
    the next)."""
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
    if _credited(invoice) >= invoice.finalization.total:
        return "credited"
    statuses = {reversals.status_of(dispute) for dispute in invoice.disputes.all()}
    if reversals.LOST in statuses:
        return "lost"
    return "disputed" if any(map(reversals.holds_money, statuses)) else "paid"


def _credited(invoice: Invoice) -> Money:
    """With tax, by credit notes that stand."""
    issued = [
        note.issued.total
        for note in invoice.credit_notes.all()
        if hasattr(note, "issued") and not hasattr(note, "voided")
    ]
    return sum(issued, start=Money(0, invoice.currency))


def record_finalization(
    *,
    invoice: Invoice,
    stripe_invoice_id: str,
    number: str,
    hosted_url: str,
    subtotal: Money,
    total: Money,
    finalized_at: datetime,
    due_at: datetime | None = None,
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
            "due_at": due_at,
        },
    )


def record_payment(*, invoice: Invoice, amount: Money, paid_at: datetime) -> None:
    """The invoice is paid. Told again, nothing changes."""
    with transaction.atomic():
        InvoicePayment.objects.get_or_create(
            invoice=invoice, defaults={"amount": amount, "paid_at": paid_at}
        )
        dunning.settle(invoice=invoice, at=paid_at)
        allotments.grant_paid(invoice=invoice, paid_at=paid_at)


def record_payment_failure(
    *,
    invoice: Invoice,
    reference: str,
    code: str,
    decline_code: str = "",
    message: str,
    at: datetime,
) -> None:
    """A charge of the card was declined. Told again of the same charge, nothing changes."""
    with transaction.atomic():
        failure, is_new = InvoicePaymentFailure.objects.get_or_create(
            invoice=invoice,
            reference=reference,
            defaults={
                "code": code,
                "decline_code": decline_code,
                "message": message,
                "failed_at": at,
            },
        )
        if is_new:
            dunning.tell_failure(failure=failure, at=at)


def record_given_up(*, invoice: Invoice, kind: str, given_up_at: datetime) -> None:
    """The vendor voided the invoice, or wrote it off. Told again, nothing changes."""
    with transaction.atomic():
        InvoiceGivenUp.objects.get_or_create(
            invoice=invoice, kind=kind, defaults={"given_up_at": given_up_at}
        )
        if kind == InvoiceGivenUp.Kind.VOID:
            dunning.settle(invoice=invoice, at=given_up_at)


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


def span_text(period: Period) -> str:
    return periods.span_text(
        starts_at=period.starts_at,
        ends_at=period.ends_at,
        time_zone=period.subscription.time_zone,
    )
