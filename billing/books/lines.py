"""From exact postings to lines with amounts that can be booked.

Of each customer's account the booked balance is the exact balance, rounded. So a line's amount is
what it moves the rounded balance by: what is left over, less than half a cent, is carried on to the
account's next line, and books never drift however many lines they have.

Two accounts of a posting may round differently on a day. The rest, a cent or two that another day
takes back, stands on the account for rounding: so each customer's lines of each rule balance.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby

from billing import money
from billing.books import chart

Series = tuple[int, str, str]  # a customer's account in one currency


@dataclass(frozen=True, kw_only=True, slots=True)
class Posting:
    """What is booked of one thing now: exact micros, moved from credit to debit."""

    rule: str
    subject: str
    customer_id: int
    currency: str
    debit: str
    credit: str
    micros: int
    micros_to_date: int
    happened_on: date


@dataclass(frozen=True, kw_only=True, slots=True)
class NewLine:
    """A line of a day before it is written; debit above 0."""

    customer_id: int
    rule: str
    subject: str
    account: str
    happened_on: date
    currency: str
    amount_micros: int
    micros: int
    micros_to_date: int
    unbooked_micros: int


def series_of(postings: Sequence[Posting]) -> set[Series]:
    """The accounts whose carried parts of a cent `lines` must know."""
    return {
        (one.customer_id, one.currency, account)
        for one in postings
        for account in (one.debit, one.credit)
    }


def lines(*, postings: Sequence[Posting], unbooked: Mapping[Series, int]) -> Iterator[NewLine]:
    """The lines of a day; `unbooked` is what each account carries on from its last line."""
    carried = defaultdict(int, unbooked)
    ordered = sorted(postings, key=lambda one: (one.customer_id, one.currency, one.rule))
    for (customer_id, currency, rule), group in groupby(
        ordered, key=lambda one: (one.customer_id, one.currency, one.rule)
    ):
        rest = 0
        happened_on = date.max
        for posting in group:
            happened_on = min(happened_on, posting.happened_on)
            for account, micros in _sides(posting):
                line = _line(posting, account, micros, carried)
                rest += line.amount_micros
                yield line
        if rest:
            yield NewLine(
                customer_id=customer_id,
                rule=rule,
                subject=f"rounding:{customer_id}",
                account=chart.ROUNDING,
                happened_on=happened_on,
                currency=currency,
                amount_micros=-rest,
                micros=0,
                micros_to_date=0,
                unbooked_micros=0,
            )


def _sides(posting: Posting) -> tuple[tuple[str, int], tuple[str, int]]:
    return (posting.debit, posting.micros), (posting.credit, -posting.micros)


def _line(posting: Posting, account: str, micros: int, carried: dict[Series, int]) -> NewLine:
    """The account for rounding is never rounded itself: it takes what the others leave."""
    amount = unbooked = 0
    if account != chart.ROUNDING:
        series = (posting.customer_id, posting.currency, account)
        exact = carried[series] + micros
        amount = money.bookable_micros(exact, posting.currency)
        carried[series] = unbooked = exact - amount
    return NewLine(
        customer_id=posting.customer_id,
        rule=posting.rule,
        subject=posting.subject,
        account=account,
        happened_on=posting.happened_on,
        currency=posting.currency,
        amount_micros=amount,
        micros=micros,
        micros_to_date=posting.micros_to_date,
        unbooked_micros=unbooked,
    )
