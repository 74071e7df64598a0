"""Close the books of a vendor, day after day.

A day is a calendar day in UTC. It is closed after its end, once, in one transaction, and the days
before it are closed first. Closing it again changes nothing.

What was used of lots on a day is read off the lots themselves if the day ended a moment ago,
however many runs there were: beat closes it then. Of a day that ended longer ago it takes the runs
of that day: all runs are read, once for all days that are open.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from django.db import connection, transaction
from django.db.models import Max, Min

from billing.books import chart
from billing.books.invoices import ACCOUNT_OF_LINE
from billing.books.lines import NewLine, Posting, Series, lines, series_of
from billing.books.rules import RULES, Rule
from billing.books.standings import Day, Standing
from billing.errors import DayNotOver
from billing.models import Customer, JournalDay, Subscription, TopUp, Vendor
from ledger import worths

# How late a day may be closed as its lots stand. What runs took meanwhile counts for the day, too.
AS_LOTS_STAND: Final = timedelta(minutes=15)
DAY: Final = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class ClosedDay:
    """A day of which the books are closed now."""

    day: date
    lines_count: int
    late_count: int  # lines of days that had been closed before


Progress = Callable[[ClosedDay], None]


def open_days(*, vendor_id: int, until: date) -> list[date]:
    """Days whose books are open, up to and with `until`: from the vendor's first sale on."""
    last = JournalDay.objects.filter(vendor_id=vendor_id).aggregate(day=Max("day"))["day"]
    first = _first_day(vendor_id) if last is None else last + DAY
    if first is None:
        return []
    return [first + number * DAY for number in range((until - first).days + 1)]


def last_over(*, at: datetime) -> date:
    """The last day that is over."""
    return at.astimezone(UTC).date() - DAY


def close_due(*, at: datetime) -> int:
    """Close every day that is over, of every vendor; how many were closed."""
    vendors = Vendor.objects.order_by("id").values_list("pk", flat=True)
    return sum(
        len(close(vendor_id=vendor_id, until=last_over(at=at), at=at)) for vendor_id in vendors
    )


def close(
    *, vendor_id: int, until: date, at: datetime, progress: Progress = lambda closed: None
) -> list[ClosedDay]:
    """Close a vendor's open days up to and with `until`. Raises DayNotOver."""
    if until > last_over(at=at):
        raise DayNotOver(day=until, last=last_over(at=at))
    days = open_days(vendor_id=vendor_id, until=until)
    if not days:
        return []
    used = None
    if at - _ends_at(days[0]) > AS_LOTS_STAND:
        account_ids = sorted(_customer_ids(vendor_id))
        used = worths.UsedByDay.read(account_ids=account_ids, until_at=_ends_at(days[-1]))
    closed = []
    for day in days:
        done = _close_day(vendor_id=vendor_id, day=day, used=used, at=at)
        if done is not None:
            closed.append(done)
            progress(done)
    return closed


def to_post(day: Day, *, rules: Iterable[Rule] = RULES) -> list[Posting]:
    """What the books lack of everything that has happened up to the end of the day."""
    return [posting for rule in rules for posting in _postings(rule, day)]


def as_lots_stand(*, vendor_id: int, day: date) -> Day:
    """A vendor's day with its lots as they are now."""
    customer_ids = _customer_ids(vendor_id)
    stand = list(worths.worths(account_ids=sorted(customer_ids)))
    return Day(vendor_id=vendor_id, day=day, customer_ids=customer_ids, worths=stand)


def _close_day(
    *, vendor_id: int, day: date, used: worths.UsedByDay | None, at: datetime
) -> ClosedDay | None:
    """None if somebody else closed it meanwhile."""
    with transaction.atomic():
        Vendor.objects.select_for_update(no_key=True).get(pk=vendor_id)
        if JournalDay.objects.filter(vendor_id=vendor_id, day__gte=day).exists():
            return None
        if used is None:
            stands = as_lots_stand(vendor_id=vendor_id, day=day)
        else:
            stands = _as_lots_stood(vendor_id, day, used.through(day))
        postings = to_post(stands)
        written = list(lines(postings=postings, unbooked=_unbooked(series_of(postings))))
        closed = JournalDay.objects.create(vendor_id=vendor_id, day=day, closed_at=at)
        _write(closed, written)
        return ClosedDay(
            day=day,
            lines_count=len(written),
            late_count=sum(line.happened_on < day for line in written),
        )


def _as_lots_stood(vendor_id: int, day: date, used: Mapping[int, int]) -> Day:
    customer_ids = _customer_ids(vendor_id)
    stood = worths.worths(account_ids=sorted(customer_ids), until_at=_ends_at(day), used=used)
    return Day(vendor_id=vendor_id, day=day, customer_ids=customer_ids, worths=list(stood))


def _first_day(vendor_id: int) -> date | None:
    firsts = [
        Subscription.objects.filter(customer__vendor_id=vendor_id).aggregate(at=Min("starts_at"))[
            "at"
        ],
        TopUp.objects.filter(customer__vendor_id=vendor_id).aggregate(at=Min("begun_at"))["at"],
    ]
    known = [at.astimezone(UTC).date() for at in firsts if at is not None]
    return min(known, default=None)


def _customer_ids(vendor_id: int) -> dict[int, int]:
    """By the account of each."""
    own = Customer.objects.filter(vendor_id=vendor_id)
    return dict(own.values_list("account_id", "pk"))


def _ends_at(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + DAY


_TO_POST: Final = """
    SELECT fact.subject, fact.customer_id, fact.currency, fact.debit, fact.credit,
           fact.micros - coalesce(booked.micros_to_date, 0) AS micros,
           fact.micros AS micros_to_date, least(fact.happened_on, %(day)s) AS happened_on
    FROM ({facts}) AS fact
    LEFT JOIN LATERAL (
        SELECT micros_to_date FROM billing_journalline
        WHERE rule = %(rule)s AND subject = fact.subject
        ORDER BY id DESC LIMIT 1
    ) AS booked ON true
    WHERE fact.micros <> coalesce(booked.micros_to_date, 0)
"""
_POSTED: Final = (
    *("subject", "customer_id", "currency", "debit", "credit"),
    *("micros", "micros_to_date", "happened_on"),
)
_GIVEN: Final = """
    SELECT * FROM unnest(
        %(subjects)s::text[], %(customer_ids)s::bigint[], %(currencies)s::text[],
        %(debits)s::text[], %(credits)s::text[], %(micros)s::bigint[], %(happened_on)s::date[]
    ) AS given (subject, customer_id, currency, debit, credit, micros, happened_on)
"""
_KINDS: Final = {
    "kinds": [str(kind) for kind in ACCOUNT_OF_LINE],
    "accounts": list(ACCOUNT_OF_LINE.values()),
}


def _postings(rule: Rule, day: Day) -> list[Posting]:
    parameters: dict[str, Any] = {"rule": rule.code, "day": day.day}
    if isinstance(rule.facts, str):
        facts = rule.facts
        parameters |= {"vendor_id": day.vendor_id, "ends_at": day.ends_at, **_KINDS}
    else:
        facts = _GIVEN
        parameters |= _columns(list(rule.facts(day)))
    with connection.cursor() as cursor:
        cursor.execute(_TO_POST.format(facts=facts), parameters)
        return [
            Posting(rule=rule.code, **dict(zip(_POSTED, row, strict=True)))
            for row in cursor.fetchall()
        ]


def _columns(given: Sequence[Standing]) -> dict[str, Any]:
    return {
        "subjects": [one.subject for one in given],
        "customer_ids": [one.customer_id for one in given],
        "currencies": [one.currency for one in given],
        "debits": [one.debit for one in given],
        "credits": [one.credit for one in given],
        "micros": [one.micros for one in given],
        "happened_on": [one.happened_on for one in given],
    }


_UNBOOKED: Final = """
    SELECT series.customer_id, series.currency, series.account, last.unbooked_micros
    FROM unnest(%s::bigint[], %s::text[], %s::text[]) AS series (customer_id, currency, account)
    CROSS JOIN LATERAL (
        SELECT unbooked_micros FROM billing_journalline
        WHERE customer_id = series.customer_id AND account = series.account
          AND currency = series.currency
        ORDER BY id DESC LIMIT 1
    ) AS last
    WHERE series.account <> %s
"""


def _unbooked(series: Iterable[Series]) -> dict[Series, int]:
    ordered = sorted(series)
    columns = [[one[place] for one in ordered] for place in range(3)]
    with connection.cursor() as cursor:
        cursor.execute(_UNBOOKED, [*columns, chart.ROUNDING])
        return {(row[0], row[1], row[2]): row[3] for row in cursor.fetchall()}


_WRITE: Final = """
    INSERT INTO billing_journalline (
        day_id, customer_id, rule, subject, account, happened_on, currency, amount, micros,
        micros_to_date, unbooked_micros
    )
    SELECT %s, customer_id, rule, subject, account, happened_on, currency,
           amount_micros / 1000000.0, micros, micros_to_date, unbooked_micros
    FROM unnest(
        %s::bigint[], %s::text[], %s::text[], %s::text[], %s::date[], %s::text[], %s::bigint[],
        %s::bigint[], %s::bigint[], %s::bigint[]
    ) WITH ORDINALITY AS line (
        customer_id, rule, subject, account, happened_on, currency, amount_micros, micros,
        micros_to_date, unbooked_micros, position
    )
    ORDER BY position
"""


def _write(day: JournalDay, written: Sequence[NewLine]) -> None:
    """All lines of a day, by one statement: the database takes no others."""
    names = NewLine.__dataclass_fields__
    columns = [[getattr(line, name) for line in written] for name in names]
    if written:
        with connection.cursor() as cursor:
            cursor.execute(_WRITE, [day.pk, *columns])
