"""Read the journal: what was booked, by day, customer and rule; and sums by month.

A transaction is what a rule booked of a customer on a day: its lines balance.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from functools import lru_cache
from itertools import groupby

from django.db.models import Min, QuerySet, Sum
from django.db.models.functions import TruncMonth

from billing.models import JournalDay, JournalLine

ROWS_AT_A_TIME = 5_000
MONTHS_KEPT_MAX = 100


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
    """What was booked on an account in a month."""

    month: date
    account: str
    currency: str
    moved: Decimal


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
    return _sums(JournalLine.objects.filter(day__vendor_id=vendor_id, day__day__lte=last))


def of_day(*, vendor_id: int, day: date) -> list[Balance]:
    """What was booked on each account on a day."""
    return _sums(JournalLine.objects.filter(day__vendor_id=vendor_id, day__day=day))


@lru_cache(maxsize=MONTHS_KEPT_MAX)
def months(*, vendor_id: int, last: date) -> tuple[Month, ...]:
    """What was booked on each account month by month, up to a closed day.

    What is closed never changes, so it is added up once.
    """
    rows = (
        JournalLine.objects.filter(day__vendor_id=vendor_id, day__day__lte=last)
        .annotate(month=TruncMonth("day__day"))
        .values_list("month", "account", "currency")
        .annotate(moved=Sum("amount"))
        .order_by("month", "account", "currency")
    )
    return tuple(
        Month(month=month, account=account, currency=currency, moved=moved)
        for month, account, currency, moved in rows
    )


def last_of_month(first: date) -> date:
    return (first + timedelta(days=31)).replace(day=1) - timedelta(days=1)


def _sums(found: QuerySet[JournalLine]) -> list[Balance]:
    rows = (
        found.values_list("account", "currency")
        .annotate(amount=Sum("amount"), exact=Sum("micros"))
        .order_by("account", "currency")
    )
    return [
        Balance(account=account, currency=currency, amount=amount, micros=int(micros))
        for account, currency, amount, micros in rows
    ]
