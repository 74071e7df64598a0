"""What customers bought and used, as FOCUS 1.2 has it: for FinOps tools.

FOCUS is the FinOps Open Cost and Usage Specification, https://focus.finops.org. Tokens are what it
calls a virtual currency, and its appendix on them says how they are told:

- A **purchase** of tokens has its price as BilledCost, and an EffectiveCost of 0: none is used yet.
- **Use** has a BilledCost of 0, and what its tokens had cost as EffectiveCost. PricingCurrency is
  the token.

A purchase is a line of an invoice, so BilledCost adds up to the invoices and top-ups; what is not
tokens (fees, true-ups) has its EffectiveCost at once. Use is added up by the customer's own day
and by who it was for. The list price of a token is the dearest at which the vendor's catalog sells
one; the list rate, what its work costs in tokens, is another rate card's if the caller names one.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Final, cast
from zoneinfo import ZoneInfo

from billing import money
from billing.models import (
    Customer,
    InvoiceLine,
    PackPrice,
    PlanPrice,
    SizeOption,
    TopUpFulfilment,
    Vendor,
)
from billing.spreadsheets import safe
from ledger import catalog, queries, usage
from ledger.queries import LotNow
from ledger.units import MICROS_PER_UNIT_OF_MONEY, MICROTOKENS_PER_TOKEN

PLACES: Final = 12
TOKEN: Final = "Token"  # noqa: S105
RUN: Final = "Run"
DAY: Final = timedelta(days=1)
OF_TOKENS: Final = frozenset(
    {
        InvoiceLine.Kind.ALLOTMENT,
        InvoiceLine.Kind.ALLOTMENT_CHANGE,
        InvoiceLine.Kind.OVERAGE,
        InvoiceLine.Kind.LATE_OVERAGE,
    }
)
OVERAGE: Final = frozenset({InvoiceLine.Kind.OVERAGE, InvoiceLine.Kind.LATE_OVERAGE})


@dataclass(frozen=True, kw_only=True, slots=True)
class Charge:
    """A row. Its fields are FOCUS's columns, in their order; empty is null."""

    billed_cost: Fraction
    billing_account_id: str
    billing_account_name: str
    billing_account_type: str = "Customer"
    billing_currency: str
    billing_period_end: datetime
    billing_period_start: datetime
    charge_category: str
    charge_class: str = ""
    charge_description: str
    charge_frequency: str
    charge_period_end: datetime
    charge_period_start: datetime
    consumed_quantity: Fraction | None = None
    consumed_unit: str = ""
    contracted_cost: Fraction
    contracted_unit_price: Fraction | None = None
    effective_cost: Fraction
    invoice_id: str = ""
    invoice_issuer_name: str
    list_cost: Fraction
    list_unit_price: Fraction | None = None
    pricing_category: str = "Standard"
    pricing_currency: str
    pricing_currency_contracted_unit_price: Fraction | None = None
    pricing_currency_effective_cost: Fraction | None = None
    pricing_currency_list_unit_price: Fraction | None = None
    pricing_quantity: Fraction | None = None
    pricing_unit: str = ""
    provider_name: str
    publisher_name: str
    resource_id: str = ""
    resource_name: str = ""
    resource_type: str = ""
    service_category: str = "AI and Machine Learning"
    service_name: str
    service_subcategory: str = "Other (AI and Machine Learning)"
    sku_id: str = ""
    sku_price_id: str = ""
    sub_account_id: str = ""
    sub_account_name: str = ""
    sub_account_type: str = ""
    tags: dict[str, str] = field(default_factory=dict)


NAMES: Final = tuple(Charge.__dataclass_fields__)
COLUMNS: Final = tuple(name.title().replace("_", "") for name in NAMES)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Whose charges, of which days (in the customer's own calendar; both included)."""

    customer: Customer
    first: date
    last: date
    list_rate_card_id: int | None = None

    @property
    def from_at(self) -> datetime:
        return self._begin(self.first)

    @property
    def until_at(self) -> datetime:
        return self._begin(self.last + DAY)

    def month(self, at: datetime) -> tuple[datetime, datetime]:
        """The billing period of an instant: its calendar month."""
        begin = at.astimezone(ZoneInfo(self.customer.time_zone)).date().replace(day=1)
        return self._begin(begin), self._begin((begin + 32 * DAY).replace(day=1))

    def _begin(self, day: date) -> datetime:
        zone = ZoneInfo(self.customer.time_zone)
        return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def rows(wanted: Iterable[Wanted]) -> Iterator[str]:
    """The lines of a CSV file, its header first."""
    yield _row(COLUMNS)
    for one in wanted:
        for charge in charges(wanted=one):
            yield _row([_cell(getattr(charge, name)) for name in NAMES])


def charges(*, wanted: Wanted) -> Iterator[Charge]:
    """What a customer bought and used in these days."""
    listed = list_price(vendor=wanted.customer.vendor, currency=wanted.customer.currency)
    yield from _invoiced(wanted, listed)
    yield from _topped_up(wanted, listed)
    yield from _used(wanted, listed)


def list_price(*, vendor: Vendor, currency: str) -> Fraction:
    """The dearest price of a token at which the vendor's published catalog sells some; else 0."""
    of_plans = PlanPrice.objects.filter(
        currency=currency, version__plan__vendor=vendor, version__published_at__isnull=False
    ).values_list("allotment_price", "version__allotment_microtokens")
    of_sizes = SizeOption.objects.filter(
        currency=currency, version__plan__vendor=vendor, version__published_at__isnull=False
    ).values_list("allotment_price", "allotment_microtokens")
    of_packs = PackPrice.objects.filter(
        currency=currency, pack__vendor=vendor, pack__published_at__isnull=False
    ).values_list("price", "pack__microtokens")
    prices = [
        Fraction(cast(Decimal, price)) * MICROTOKENS_PER_TOKEN / microtokens
        for found in (of_plans, of_sizes, of_packs)
        for price, microtokens in found
        if microtokens
    ]
    return max(prices, default=Fraction(0))


def _invoiced(wanted: Wanted, listed: Fraction) -> Iterator[Charge]:
    """The lines of issued invoices. What was carried over stands on them as it was then."""
    lines = (
        InvoiceLine.objects.filter(
            invoice__customer=wanted.customer,
            invoice__built_at__gte=wanted.from_at,
            invoice__built_at__lt=wanted.until_at,
        )
        .exclude(kind=InvoiceLine.Kind.CARRIED)
        .select_related("invoice__finalization", "period__subscription__plan_version__plan")
        .order_by("invoice__built_at", "invoice_id", "position")
    )
    for line in lines:
        finalization = getattr(line.invoice, "finalization", None)
        plan = line.period.subscription.plan_version.plan
        charge = replace(
            _purchase(wanted, Fraction(line.amount.amount), at=line.invoice.built_at),
            charge_description=line.description,
            charge_frequency="Usage-Based" if line.kind in OVERAGE else "Recurring",
            charge_period_start=line.period.starts_at,
            charge_period_end=line.period.ends_at,
            invoice_id=finalization.number if finalization else "",
            sku_id=plan.code,
            sku_price_id=f"{plan.code}:{line.kind}",
        )
        if line.kind in OF_TOKENS and line.microtokens:
            yield _of_tokens(charge, line.microtokens, listed, f"line:{line.pk}")
        else:
            yield replace(charge, effective_cost=charge.billed_cost)


def _topped_up(wanted: Wanted, listed: Fraction) -> Iterator[Charge]:
    bought = TopUpFulfilment.objects.filter(
        top_up__customer=wanted.customer,
        top_up__payment__paid_at__gte=wanted.from_at,
        top_up__payment__paid_at__lt=wanted.until_at,
    ).select_related("top_up__payment", "top_up__pack")
    lots = _lots(wanted.customer) if bought else {}
    for one in bought.order_by("top_up__payment__paid_at", "pk"):
        top_up, lot = one.top_up, lots[one.lot_id]
        charge = replace(
            _purchase(wanted, Fraction(top_up.price.amount), at=top_up.payment.paid_at),
            charge_description=f"Top-up: {top_up.pack.name}",
            charge_frequency="One-Time",
            charge_period_start=lot.effective_at,
            charge_period_end=lot.expires_at or lot.effective_at + DAY,
            sku_id=top_up.pack.code,
            sku_price_id=f"{top_up.pack.code}:top_up",
        )
        yield _of_tokens(charge, top_up.microtokens, listed, f"lot:{one.lot_id}")


def _lots(customer: Customer) -> dict[int, LotNow]:
    return {lot.id: lot for lot in queries.lots(account_ids=[customer.account_id])}


def _purchase(wanted: Wanted, cost: Fraction, *, at: datetime) -> Charge:
    customer = wanted.customer
    begin, end = wanted.month(at)
    return Charge(
        billed_cost=cost,
        billing_account_id=customer.code,
        billing_account_name=customer.name,
        billing_currency=customer.currency,
        billing_period_start=begin,
        billing_period_end=end,
        charge_category="Purchase",
        charge_description="",
        charge_frequency="",
        charge_period_start=at,
        charge_period_end=at,
        contracted_cost=cost,
        effective_cost=Fraction(0),
        list_cost=cost,
        pricing_currency=customer.currency,
        invoice_issuer_name=customer.vendor.name,
        provider_name=customer.vendor.name,
        publisher_name=customer.vendor.name,
        service_name=customer.vendor.name,
    )


def _of_tokens(charge: Charge, microtokens: int, listed: Fraction, resource_id: str) -> Charge:
    tokens = Fraction(microtokens, MICROTOKENS_PER_TOKEN)
    price = charge.billed_cost / tokens
    list_unit_price = max(listed, price)
    return replace(
        charge,
        contracted_unit_price=price,
        list_unit_price=list_unit_price,
        list_cost=list_unit_price * tokens,
        pricing_quantity=tokens,
        pricing_unit=TOKEN,
        pricing_currency_contracted_unit_price=price,
        pricing_currency_effective_cost=Fraction(0),
        pricing_currency_list_unit_price=list_unit_price,
        resource_id=resource_id,
        resource_name=charge.charge_description,
        resource_type="Token Allocation",
    )


def _used(wanted: Wanted, listed: Fraction) -> Iterator[Charge]:
    """Use by the customer's own day, workflow, project, job, cost centre and department."""
    customer = wanted.customer
    for line in usage.read(
        account_ids=[customer.account_id],
        from_at=wanted.from_at,
        until_at=wanted.until_at,
        by=["workflow", "project", "job", "cost_centre", "department"],
        granularity="day",
    ):
        assert line.begins_at is not None
        if line.runs_count:
            yield _use(wanted, line, line.begins_at, listed)


def _use(wanted: Wanted, line: usage.UsageLine, begins_at: datetime, listed: Fraction) -> Charge:
    runs = Fraction(line.runs_count)
    tokens = Fraction(line.microtokens, MICROTOKENS_PER_TOKEN)
    cost = Fraction(line.micros, MICROS_PER_UNIT_OF_MONEY)
    dearer = _dearer(wanted, line.workflow or "", begins_at)
    list_cost = max(tokens * dearer * listed, cost)
    names = ("workflow", "project", "job", "cost_centre", "department")
    workflow, centre = line.workflow or "", line.cost_centre or ""
    next_day = begins_at.astimezone(ZoneInfo(wanted.customer.time_zone)).date() + DAY
    return replace(
        _purchase(wanted, Fraction(0), at=begins_at),
        charge_category="Usage",
        charge_description=f"Token consumption - {workflow}",
        charge_frequency="Usage-Based",
        charge_period_end=replace(wanted, first=next_day).from_at,
        consumed_quantity=runs,
        consumed_unit=RUN,
        contracted_cost=cost,
        contracted_unit_price=cost / runs,
        effective_cost=cost,
        list_cost=list_cost,
        list_unit_price=list_cost / runs,
        pricing_currency=TOKEN,
        pricing_currency_contracted_unit_price=tokens / runs,
        pricing_currency_effective_cost=tokens,
        pricing_currency_list_unit_price=tokens * dearer / runs,
        pricing_quantity=runs,
        pricing_unit=RUN,
        resource_id=workflow,
        resource_name=workflow,
        resource_type="Workflow",
        sku_id=workflow,
        sku_price_id=workflow,
        sub_account_id=centre,
        sub_account_name=centre,
        sub_account_type="Cost centre" if centre else "",
        tags={name: value for name in names if (value := getattr(line, name))},
    )


def _dearer(wanted: Wanted, workflow: str, at: datetime) -> Fraction:
    if wanted.list_rate_card_id is None:
        return Fraction(1)
    return catalog.times_dearer(
        account_id=wanted.customer.account_id,
        rate_card_id=wanted.list_rate_card_id,
        workflow=workflow,
        at=at,
    )


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    if isinstance(value, Fraction):
        return _number(value)
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False) if value else ""
    return safe(str(value))


def _number(value: Fraction) -> str:
    """Exactly, if so many places are enough."""
    amount = money.quotient(value.numerator, value.denominator, places=PLACES)
    return f"{amount.normalize():f}" if amount else "0"


def _row(cells: Sequence[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue()
