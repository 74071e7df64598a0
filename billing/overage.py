"""How far a period's overage is billed, and what is to be billed of it now: step by step.

    used   0 ──────────▶ 1,200 ──────▶ 1,260 ──▶ 1,150 ──▶ 1,300
    step        1: closing      2: late     3: credit   4: late

What overage is worth is a function of how much is used (ledger.value), so a step is worth the
difference of two such amounts, and the steps of a period add up to what its overage comes to by
now, whatever came late or was given back meanwhile. A step that is worth something is billed by
lines. One that is worth less than nothing (a run was given back, or by volume the price fell) makes
no line: it is a credit, which is set against whatever the customer is invoiced next.

A commitment stands between. Late overage is paid by the period's true-up first; and of a step down
the customer has coming only what it paid beyond the commitment: the rest is kept, and pays for late
overage as a true-up does.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from django.db.models import Exists, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce

from billing import crediting, explain, money, pricing
from billing.invoicing import PREPAID_KINDS, NewLine, commitment_of, span_text
from billing.models import Credit, Customer, InvoiceLine, OverageStep, Period, Subscription
from ledger import queries
from ledger.queries import LotNow
from ledger.value import Tiers, tiered_slice_micros

PERIODS_PER_PAGE = 500


@dataclass(frozen=True, kw_only=True)
class Step:
    """What is to be billed of one period's overage now. Its rows are not written."""

    row: OverageStep
    lines: tuple[NewLine, ...]
    credit: Credit | None


def lots_of(*, customer: Customer) -> dict[int, LotNow]:
    """The customer's overage lots, by id."""
    lots = queries.lots(account_ids=[customer.account_id])
    return {lot.id: lot for lot in lots if lot.kind == "overage"}


def at_closing(*, period: Period, lots: Mapping[int, LotNow]) -> Step | None:
    """The first step of a period; None if nothing of its overage was used."""
    return _step(period, lots, number=1, billed=0, kind=InvoiceLine.Kind.OVERAGE)


def late(*, customer: Customer, lots: Mapping[int, LotNow]) -> list[Step]:
    """What changed of the overage of the customer's closed periods since it was billed."""
    closed = (
        _with_last_step(
            Period.objects.filter(
                subscription__customer=customer,
                closing__isnull=False,
                overage_lot_id__in=list(lots),
            )
        )
        .select_related("subscription__plan_version", "subscription__customer")
        .order_by("starts_at", "id")
    )
    steps = [
        _step(
            period,
            lots,
            number=period.steps_count + 1,  # type: ignore[attr-defined]  # annotated
            billed=period.billed,  # type: ignore[attr-defined]  # annotated
            kind=InvoiceLine.Kind.LATE_OVERAGE,
        )
        for period in closed
    ]
    return [step for step in steps if step is not None]


def credits_of(*, steps: Sequence[Step]) -> list[Credit]:
    """The credits that are given with these steps."""
    return [step.credit for step in steps if step.credit is not None]


def write(*, steps: Sequence[Step], at: datetime) -> None:
    """Write down how far overage is billed with these steps, and give their credits."""
    for step in steps:
        step.row.billed_at = at
        step.row.save(force_insert=True)
    for credit in credits_of(steps=steps):
        crediting.record(
            customer=credit.customer,
            amount=credit.amount,
            reason=credit.reason,
            description=credit.description,
            period=credit.period,
            idempotency_key=credit.key,
            at=at,
        )


def customers_left_late() -> Iterator[int]:
    """Customers for whom no closing is to come, but whose overage is not as it was billed."""
    to_come = Period.objects.filter(
        subscription__customer=OuterRef("subscription__customer"), closing__isnull=True
    )
    subscribed = Subscription.objects.filter(
        customer=OuterRef("subscription__customer"), cancelled_at__isnull=True
    )
    left = (
        _with_last_step(
            Period.objects.filter(
                ~Exists(to_come),
                ~Exists(subscribed),
                closing__isnull=False,
                overage_lot_id__isnull=False,
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
            if consumed[lot_id] != billed and customer_id not in told:
                told.add(customer_id)
                yield customer_id
        page = list(left.filter(id__gt=page[-1][0])[:PERIODS_PER_PAGE])


def _with_last_step(periods: QuerySet[Period]) -> QuerySet[Period]:
    """With `billed`, up to where their overage is billed, and `steps_count`, in how many steps."""
    last = OverageStep.objects.filter(period=OuterRef("pk")).order_by("-number")
    return periods.annotate(
        billed=Coalesce(Subquery(last.values("to_microtokens")[:1]), 0),
        steps_count=Coalesce(Subquery(last.values("number")[:1]), 0),
    )


def _step(
    period: Period, lots: Mapping[int, LotNow], *, number: int, billed: int, kind: str
) -> Step | None:
    lot = lots.get(period.overage_lot_id or 0)
    if lot is None or lot.out_microtokens == billed:
        return None
    assert lot.tiers is not None
    row = OverageStep(
        period=period,
        number=number,
        from_microtokens=billed,
        to_microtokens=lot.out_microtokens,
        micros=tiered_slice_micros(
            tiers=lot.tiers, out_before=billed, out_after=lot.out_microtokens
        ),
    )
    if row.micros < 0:
        row.kept_micros = -row.micros - min(-row.micros, _paid_beyond_commitment(row, lot.tiers))
        return Step(row=row, lines=(), credit=_credit(row))
    lines = _lines(row, lot.tiers, kind=kind)
    if kind == InvoiceLine.Kind.LATE_OVERAGE:
        lines = _covered(period, lines)
    return Step(row=row, lines=tuple(lines), credit=None)


def _lines(row: OverageStep, tiers: Tiers, *, kind: str) -> list[NewLine]:
    if row.to_microtokens < row.from_microtokens and not row.micros:
        return []  # what was given back cost nothing
    currency = row.period.subscription.customer.currency
    parts = pricing.overage_parts(
        tiers=tiers, from_microtokens=row.from_microtokens, to_microtokens=row.to_microtokens
    )
    late = " that came in late" if kind == InvoiceLine.Kind.LATE_OVERAGE else ""
    told = f"Overage{late}, {span_text(row.period)}"
    return [
        NewLine(
            kind=kind,
            period=row.period,
            description=(
                f"{told}: {explain.overage_text(tiers=tiers, part=part, currency=currency)}"
            ),
            micros=part.micros,
            microtokens=part.microtokens,
            from_microtokens=part.from_microtokens,
        )
        for part in parts
    ]


def _credit(row: OverageStep) -> Credit | None:
    customer = row.period.subscription.customer
    amount = money.rounded(-row.micros - row.kept_micros, customer.currency)
    if not amount.amount:
        return None
    used = explain.tokens(row.to_microtokens)
    return Credit(
        customer=customer,
        key=f"overage:{row.period.pk}:{row.number}",
        reason=Credit.Reason.OVERAGE,
        period=row.period,
        description=(
            f"Overage, {span_text(row.period)}: {used} used by now come to less than was invoiced"
        ),
        amount=amount,
    )


def _paid_beyond_commitment(row: OverageStep, tiers: Tiers) -> int:
    """What the period came to, in micros, beyond its commitment, as it was billed so far."""
    period = row.period
    commitment = commitment_of(period=period)
    lines = InvoiceLine.objects.filter(period=period, kind__in=PREPAID_KINDS)
    in_advance: int = lines.aggregate(micros=Sum("micros", default=0))["micros"]
    credited = money.to_micros(crediting.given_for(period=period))
    overage = tiered_slice_micros(tiers=tiers, out_before=0, out_after=row.from_microtokens)
    return max(0, in_advance - credited + overage - money.to_micros(commitment))


def _covered(period: Period, late: Sequence[NewLine]) -> list[NewLine]:
    """Late lines of a period whose commitment has paid for them already, in whole or in part."""
    paid = InvoiceLine.objects.filter(period=period).aggregate(
        true_up=Sum("micros", filter=Q(kind=InvoiceLine.Kind.TRUE_UP), default=0),
        covered=Sum("covered_micros", default=0),
    )
    kept = OverageStep.objects.filter(period=period).aggregate(kept=Sum("kept_micros", default=0))
    left = paid["true_up"] + kept["kept"] - paid["covered"]
    lines = []
    for line in late:
        covered = min(left, line.micros)
        left -= covered
        if covered:
            told = money.price_text(covered, period.subscription.customer.currency)
            line = replace(
                line,
                micros=line.micros - covered,
                covered_micros=covered,
                description=f"{line.description} ({told} of it paid by the true-up)",
            )
        lines.append(line)
    return lines
