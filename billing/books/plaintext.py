"""The journal as text: CSV, and what Beancount and hledger read.

Beancount: https://beancount.github.io/docs/beancount_language_syntax.html
hledger: https://hledger.org/hledger.html#journal

Each transaction of a text balances, as the books do. Transactions that come to less than a cent, so
that nothing of them is booked yet, are left out of the plain-text formats; the CSV has them with
their exact amounts. If a text begins with the books' first day, it says at its end what each
account's balance is, for its reader to check.
"""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Final

from billing import money
from billing.books import journal
from billing.books.chart import ACCOUNTS
from billing.books.journal import Balance, Transaction
from billing.books.rules import TITLES
from billing.models import Vendor
from billing.spreadsheets import safe
from ledger.units import MICROS_PER_UNIT_OF_MONEY

Lines = Iterator[str]


@dataclass(frozen=True, kw_only=True)
class Text:
    """What is to be written."""

    vendor: Vendor
    first: date
    last: date
    transactions: Iterable[Transaction]
    balances: Sequence[Balance]  # empty if the text does not begin with the books


def text(*, vendor: Vendor, first: date, last: date) -> Text:
    """A vendor's journal from one closed day to another, both included."""
    span = journal.closed_days(vendor_id=vendor.pk)
    begins = span is not None and span[0] == first
    return Text(
        vendor=vendor,
        first=first,
        last=last,
        transactions=journal.transactions(vendor_id=vendor.pk, first=first, last=last),
        balances=journal.balances(vendor_id=vendor.pk, last=last) if begins else [],
    )


def as_csv(wanted: Text) -> Lines:
    """A line for each account that a transaction moves."""
    header = (
        *("day", "happened_on", "customer", "customer_name", "rule", "title"),
        *("account", "account_name", "currency", "debit", "credit", "exact"),
    )
    yield _row(header)
    for one in wanted.transactions:
        for side in one.sides:
            account = ACCOUNTS[side.account]
            amount = _amount(abs(side.amount), one.currency)
            exact = Decimal(side.micros) / MICROS_PER_UNIT_OF_MONEY
            yield _row(
                (
                    *(str(one.day), str(one.happened_on)),
                    *(safe(one.customer_code), safe(one.customer_name)),
                    *(one.rule, TITLES[one.rule], account.name, account.title, one.currency),
                    *((amount, "") if side.amount > 0 else ("", amount)),
                    f"{exact:.6f}",
                )
            )


def as_beancount(wanted: Text) -> Lines:
    """Beancount's own checker (`bean-check`) accepts it."""
    yield f'option "title" {_quoted(wanted.vendor.name)}\n\n'
    for account in ACCOUNTS.values():
        yield f"{wanted.first} open {account.name}\n"
        yield f"  meaning: {_quoted(account.meaning)}\n"
    for one in wanted.transactions:
        if sides := _booked(one):
            yield f"\n{one.day} * {_quoted(one.customer_name)} {_quoted(TITLES[one.rule])}\n"
            yield f"  customer: {_quoted(one.customer_code)}\n"
            if one.happened_on < one.day:
                yield f"  happened: {one.happened_on}\n"
            for name, amount in sides:
                yield f"  {name:<32}{amount:>18} {one.currency}\n"
    if wanted.balances:
        yield "\n"
    for balance in wanted.balances:
        amount = _amount(balance.amount, balance.currency)
        name = ACCOUNTS[balance.account].name
        yield f"{wanted.last + timedelta(days=1)} balance {name} {amount} {balance.currency}\n"


def as_hledger(wanted: Text) -> Lines:
    """Strictly what hledger's manual describes of its journal format."""
    yield f"; {_plain(wanted.vendor.name)}, {wanted.first} to {wanted.last}\n\n"
    currencies = sorted({balance.currency for balance in wanted.balances})
    for currency in currencies:
        yield f"commodity 1000.{'0' * money.exponent(currency)} {currency}\n"
    for account in ACCOUNTS.values():
        yield f"account {account.name}  ; {_plain(account.meaning)}\n"
    for one in wanted.transactions:
        yield from _hledger_transaction(one)
    if wanted.balances:
        yield f"\n{wanted.last} * Balances\n"
    for balance in wanted.balances:
        name, currency = ACCOUNTS[balance.account].name, balance.currency
        nothing, amount = (_amount(one, currency) for one in (Decimal(0), balance.amount))
        yield f"    {name:<32}{nothing:>18} {currency} = {amount} {currency}\n"


def _hledger_transaction(one: Transaction) -> Lines:
    if sides := _booked(one):
        head = f"{one.day} * ({one.rule}) {_plain(one.customer_name)} | {TITLES[one.rule]}"
        yield f"\n{head}  ; customer:{_plain(one.customer_code)}\n"
        if one.happened_on < one.day:
            yield f"    ; happened:{one.happened_on}\n"
        for name, amount in sides:
            yield f"    {name:<32}{amount:>18} {one.currency}\n"


FORMATS: Final[dict[str, Callable[[Text], Lines]]] = {
    "csv": as_csv,
    "beancount": as_beancount,
    "hledger": as_hledger,
}


def _booked(one: Transaction) -> list[tuple[str, str]]:
    """Accounts by name, and amounts, of a transaction of which something is booked."""
    return [
        (ACCOUNTS[side.account].name, _amount(side.amount, one.currency))
        for side in one.sides
        if side.amount
    ]


def _amount(amount: Decimal, currency: str) -> str:
    return f"{amount:.{money.exponent(currency)}f}"


def _quoted(words: str) -> str:
    escaped = words.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _plain(words: str) -> str:
    """In hledger a semicolon begins a comment, a bar ends the payee, a comma ends a tag."""
    for mark in ";|,":
        words = words.replace(mark, " ")
    return " ".join(words.split()) or "-"


def _row(cells: Sequence[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue()
