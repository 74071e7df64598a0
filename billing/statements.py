"""An invoice shared out to cost centres, in proportion to the tokens that each used; to the cent.

Every line is shared out by itself (largest remainder, billing.pricing.allocate), so that the shares
of a line add up to the line, and those of all cost centres to the invoice. Overage, true-up, and
the next period's platform fee and allotment go by what was used in the period that the invoice
closes; a line that came in late or was carried over goes by its own period. Where nothing was
used, no cost centre bears it.

What a closed period's cost centres used was written down by its closing (PeriodUse). Until then a
statement is provisional: it goes by what is used so far.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from djmoney.money import Money

from billing import money, pricing
from billing.models import Invoice, InvoiceLine, Period, PeriodUse
from ledger import usage

WITHOUT = ""  # the cost centre of what none bears
KINDS_OF_THEIR_OWN_PERIOD = (InvoiceLine.Kind.LATE_OVERAGE, InvoiceLine.Kind.CARRIED)


@dataclass(frozen=True, kw_only=True)
class Portion:
    """What a cost centre bears of a line."""

    line: InvoiceLine
    cost_centre: str
    microtokens: int  # its use in the period by which the line is shared out
    amount: Money


@dataclass(frozen=True, kw_only=True)
class CostCentre:
    """What a cost centre bears of an invoice. `microtokens` is its use in the invoice's period."""

    cost_centre: str
    microtokens: int
    amount: Money


@dataclass(frozen=True, kw_only=True)
class Statement:
    """An invoice's lines by cost centre, before tax."""

    invoice: Invoice
    cost_centres: tuple[CostCentre, ...]  # by name; what none bears comes first
    portions: tuple[Portion, ...]  # line by line, those that are something
    total: Money
    is_final: bool


def write_down_use(*, period: Period) -> None:
    """What each cost centre used in a period, as of its closing. In the closing's transaction."""
    PeriodUse.objects.bulk_create(
        PeriodUse(period=period, cost_centre=cost_centre, microtokens=microtokens)
        for cost_centre, microtokens in _used_so_far(period, until_at=period.ends_at).items()
    )


def of_invoice(*, invoice: Invoice, at: datetime) -> Statement:
    """The statement of an invoice. Reads only."""
    lines = list(invoice.lines.select_related("period__subscription__customer", "period__closing"))
    periods = {invoice.period_id: _with_account(invoice.period)}
    for line in lines:
        if line.kind in KINDS_OF_THEIR_OWN_PERIOD:
            periods.setdefault(line.period_id, line.period)
    uses = {period_id: _use(period, at=at) for period_id, period in periods.items()}
    own = uses[invoice.period_id]
    portions = [
        portion
        for line in lines
        for portion in _portions(
            line, uses[line.period_id] if line.kind in KINDS_OF_THEIR_OWN_PERIOD else own
        )
    ]
    zero = Money(0, invoice.currency)
    return Statement(
        invoice=invoice,
        cost_centres=_added_up(portions, own, zero),
        portions=tuple(portions),
        total=sum((line.amount for line in lines), start=zero),
        is_final=all(hasattr(period, "closing") for period in periods.values()),
    )


def portions_of(amount: Money, *, weights: Sequence[int]) -> list[Money]:
    """An amount shared out in proportion to weights, each share payable; they add up to it."""
    code = amount.currency.code
    step = money.quantum(code)
    shares = pricing.allocate(total=int(amount.amount / step), weights=weights)
    return [Money(share * step, code) for share in shares]


def _with_account(period: Period) -> Period:
    return Period.objects.select_related("subscription__customer", "closing").get(pk=period.pk)


def _use(period: Period, *, at: datetime) -> dict[str, int]:
    """By cost centre; what a closed period's were is known for good."""
    if hasattr(period, "closing"):
        return dict(period.uses.order_by("cost_centre").values_list("cost_centre", "microtokens"))
    return _used_so_far(period, until_at=min(period.ends_at, at))


def _used_so_far(period: Period, *, until_at: datetime) -> dict[str, int]:
    if until_at <= period.starts_at:
        return {}
    used = usage.by_cost_centre(
        account_id=period.subscription.customer.account_id,
        from_at=period.starts_at,
        until_at=until_at,
    )
    return {cost_centre: int(amount) for cost_centre, amount in used.items() if amount > 0}


def _portions(line: InvoiceLine, use: dict[str, int]) -> Iterable[Portion]:
    use = use or {WITHOUT: 1}
    amounts = portions_of(line.amount, weights=list(use.values()))
    for (cost_centre, microtokens), amount in zip(use.items(), amounts, strict=True):
        if amount.amount:
            yield Portion(
                line=line,
                cost_centre=cost_centre,
                microtokens=microtokens if cost_centre else 0,
                amount=amount,
            )


def _added_up(
    portions: Sequence[Portion], own: dict[str, int], zero: Money
) -> tuple[CostCentre, ...]:
    amounts = defaultdict(lambda: zero, dict.fromkeys(own, zero))
    for portion in portions:
        amounts[portion.cost_centre] += portion.amount
    return tuple(
        CostCentre(cost_centre=name, microtokens=own.get(name, 0), amount=amounts[name])
        for name in sorted(amounts)
    )
