"""What a vendor earned and owes month by month, as bars and as a table."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final

from billing import money
from billing.books import chart, journal
from billing.books.journal import Month
from billing.models import Vendor

RECOGNISED: Final = (
    *(chart.REVENUE_TOKENS, chart.REVENUE_FEES, chart.REVENUE_OVERAGE),
    *(chart.REVENUE_COMMITMENTS, chart.CREDITED, chart.REFUNDS, chart.VOIDED),
)
DEFERRED: Final = (chart.DEFERRED_TOKENS, chart.DEFERRED_FEES)
HEIGHT: Final = 120
WIDTH: Final = 600
GAP: Final = 6


@dataclass(frozen=True, kw_only=True)
class Bar:
    """In the units of the chart's own field, WIDTH by HEIGHT."""

    x: int
    y: int
    width: int
    height: int
    kind: str
    title: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """A month in figures, as they are written."""

    month: date
    recognised: str
    breakage: str
    deferred: str
    receivable: str


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One currency."""

    currency: str
    rows: tuple[Row, ...]  # the latest month first
    bars: tuple[Bar, ...]
    months: tuple[date, ...]  # under the bars, from left to right
    label: str


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A vendor's books at a glance; without charts if no day is closed."""

    vendor: Vendor
    until: date | None
    charts: tuple[Chart, ...]


def picture(*, vendor: Vendor, months_max: int) -> Picture:
    closed = journal.closed_days(vendor_id=vendor.pk)
    if closed is None:
        return Picture(vendor=vendor, until=None, charts=())
    by_currency: dict[str, list[Month]] = defaultdict(list)
    for one in journal.months(vendor_id=vendor.pk, last=closed[1]):
        by_currency[one.currency].append(one)
    return Picture(
        vendor=vendor,
        until=closed[1],
        charts=tuple(
            _chart(currency, found, months_max) for currency, found in sorted(by_currency.items())
        ),
    )


@dataclass(frozen=True, kw_only=True)
class _Figures:
    """Of a month: earned in it, and owed or to come at its end."""

    month: date
    recognised: Decimal
    breakage: Decimal
    deferred: Decimal
    receivable: Decimal


def _chart(currency: str, found: Sequence[Month], months_max: int) -> Chart:
    months = sorted({one.month for one in found})
    moved = {(one.account, one.month): one.moved for one in found}
    figures, balances = [], dict.fromkeys(chart.ACCOUNTS, Decimal(0))
    for month in months:
        for account in balances:
            balances[account] += moved.get((account, month), Decimal(0))
        figures.append(_figures(month, moved, balances))
    figures = figures[-months_max:]

    def text(amount: Decimal) -> str:
        return money.text_of(amount, currency)

    rows = tuple(
        Row(
            month=one.month,
            recognised=text(one.recognised),
            breakage=text(one.breakage),
            deferred=text(one.deferred),
            receivable=text(one.receivable),
        )
        for one in reversed(figures)
    )
    last = rows[0]
    label = (
        f"{last.month:%B %Y}: {last.recognised} recognised, {last.breakage} of breakage,"
        f" {last.deferred} deferred at its end"
    )
    return Chart(
        currency=currency,
        rows=rows,
        bars=tuple(_bars(figures, text)),
        months=tuple(one.month for one in figures),
        label=label,
    )


def _figures(
    month: date, moved: Mapping[tuple[str, date], Decimal], balances: Mapping[str, Decimal]
) -> _Figures:
    zero = Decimal(0)
    return _Figures(
        month=month,
        recognised=-sum((moved.get((one, month), zero) for one in RECOGNISED), start=zero),
        breakage=-moved.get((chart.BREAKAGE, month), zero),
        deferred=-sum((balances[one] for one in DEFERRED), start=zero),
        receivable=balances[chart.RECEIVABLE],
    )


def _bars(figures: Sequence[_Figures], text: Callable[[Decimal], str]) -> Iterator[Bar]:
    kinds = ("recognised", "breakage", "deferred")
    tallest = max((getattr(one, kind) for one in figures for kind in kinds), default=Decimal(0))
    step = WIDTH // max(len(figures), 1)
    width = max((min(step, WIDTH // 4) - GAP) // len(kinds), 2)
    for number, one in enumerate(figures):
        for place, kind in enumerate(kinds):
            amount = getattr(one, kind)
            height = int(HEIGHT * max(amount, Decimal(0)) / tallest) if tallest else 0
            yield Bar(
                x=number * step + place * width,
                y=HEIGHT - height,
                width=width - 1,
                height=height,
                kind=kind,
                title=f"{one.month:%B %Y}, {kind}: {text(amount)}",
            )
