"""Read the journal: what was booked, by day, customer and rule; and sums by month.

A transaction is what a rule booked of a customer on a day: its lines balance.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from itertools import groupby

from django.db.models import Min, Sum
from django.db.models.functions import TruncMonth

from billing.models import JournalDay, JournalLine

ROWS_AT_A_TIME = 5_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """What a transaction moves on one account: debit above 0."""

    account: str
    amount: Decimal
    micros: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Transaction:
    """What a rule booked of a customer on a day; `happened_on` is earlier if it was learnt late."""

    day: date
    happened_on: date
    rule: str
    customer_code: str
    customer_name: str
    currency: str
    sides: tuple[Side, ...]


@dataclass(frozen=True, kw_only=True)
class Balance:
    """What was booked on an account: in a span of days, or to the end of one."""

    account: str
    currency: str
    amount: Decimal
    micros: int


@dataclass(frozen=True, kw_only=True)
class Month:
    """What was booked on an account in a month, and where that left it."""

    month: date
    account: str
    currency: str
    moved: Decimal
    balance: Decimal


def closed_days(*, vendor_id: int) -> tuple[date, date] | None:
    """The first and the last day whose books are closed; None before there is one."""
    days = JournalDay.objects.filter(vendor_id=vendor_id).order_by("day").values_list("day")
    first, last = days.first(), days.last()
    return None if first is None or last is None else (first[0], last[0])


def transactions(*, vendor_id: int, first: date, last: date) -> Iterator[Transaction]:
    """What was booked from the one day to the other, both included, in order."""
    rows = (
        JournalLine.objects.filter(
            day__vendor_id=vendor_id, day__day__gte=first, day__day__lte=last
        )
        .values_list(
            *("day__day", "customer__code", "currency", "rule", "account", "customer__name")
        )
        .annotate(amount=Sum("amount"), exact=Sum("micros"), since=Min("happened_on"))
        .order_by("day__day", "customer__code", "currency", "rule", "account")
    )
    for (day, code, currency, rule), group in groupby(
        rows.iterator(chunk_size=ROWS_AT_A_TIME), key=lambda row: row[:4]
    ):
        booked = list(group)
        yield Transaction(
            day=day,
            happened_on=min(row[8] for row in booked),
            rule=rule,
            customer_code=code,
            customer_name=booked[0][5],
            currency=currency,
            sides=tuple(Side(account=row[4], amount=row[6], micros=int(row[7])) for row in booked),
        )


def balances(*, vendor_id: int, last: date) -> list[Balance]:
    """Each account's balance at the end of a day, in each currency."""
    rows = (
        JournalLine.objects.filter(day__vendor_id=vendor_id, day__day__lte=last)
        .values_list("account", "currency")
        .annotate(amount=Sum("amount"), exact=Sum("micros"))
        .order_by("account", "currency")
    )
    return [
        Balance(account=account, currency=currency, amount=amount, micros=int(micros))
        for account, currency, amount, micros in rows
    ]


def months(*, vendor_id: int) -> list[Month]:
    """What was booked on each account month by month, the latest month first."""
    rows = (
        JournalLine.objects.filter(day__vendor_id=vendor_id)
        .annotate(month=TruncMonth("day__day"))
        .values_list("account", "currency", "month")
        .annotate(moved=Sum("amount"))
        .order_by("account", "currency", "month")
    )
    found = []
    for _, group in groupby(rows, key=lambda row: row[:2]):
        balance = Decimal(0)
        for account, currency, month, moved in group:
            balance += moved
            found.append(
                Month(month=month, account=account, currency=currency, moved=moved, balance=balance)
            )
    return sorted(found, key=lambda one: one.month, reverse=True)
