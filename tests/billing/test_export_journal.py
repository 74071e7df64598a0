"""The journal as text: Beancount's own checker reads it, hledger's grammar, and a spreadsheet."""

import csv
import io
import json
from datetime import date
from decimal import Decimal
from io import StringIO

import pytest
from beancount import loader
from beancount.core import data
from django.core.management import CommandError, call_command

from billing import closing
from billing.books import chart, plaintext
from billing.models import Customer
from tests import builders
from tests.billing import hledger
from tests.billing.bookkeeping import MID, booked, close, issue, pay
from tests.builders import DAY, NOVEMBER, OCTOBER

pytestmark = pytest.mark.django_db

FIRST, LAST = date(2026, 10, 1), date(2026, 11, 2)


@pytest.fixture
def customer() -> Customer:
    """A month of a customer with an awkward name, and a day of the next, booked."""
    shop = builders.shop()
    name = '=HYPERLINK("x"); Sons | Daughters \\ Co, Inc'
    found = builders.customer(shop, name=name, code="@acme")
    version = builders.plan_version(shop, **builders.billed(platform_fee=Decimal("99.99")))
    builders.subscription(found, version)
    invoice = issue(found.invoices.get(), at=OCTOBER, tax=Decimal("219.998"))
    close(found, OCTOBER)
    pay(invoice, at=OCTOBER)
    for number, tokens in enumerate((333, 1, 800, 167)):
        builders.use(found, tokens, occurred_at=MID + number * DAY)
    closing.close_due(at=NOVEMBER + DAY)
    issue(found.invoices.get(occasion="closing"), at=NOVEMBER + DAY)
    close(found, LAST, at=NOVEMBER + 9 * DAY)
    return found


def exported(kind, customer, *, first=FIRST, last=LAST):
    wanted = plaintext.text(vendor=customer.vendor, first=first, last=last)
    return "".join(plaintext.FORMATS[kind](wanted))


def test_beancounts_own_checker_accepts_the_journal_and_finds_the_same_balances(customer):
    entries, errors, _ = loader.load_string(exported("beancount", customer))
    assert errors == []
    checked = {one.account: one.amount.number for one in entries if isinstance(one, data.Balance)}
    expected = booked(customer)
    assert {name: amount for name, amount in checked.items() if amount} == {
        chart.ACCOUNTS[account].name: amount for account, amount in expected.items()
    }
    [late] = [
        one for one in entries if isinstance(one, data.Transaction) and one.meta.get("happened")
    ]
    assert (late.date, late.meta["happened"], late.meta["customer"]) == (
        date(2026, 10, 2),
        FIRST,
        "@acme",
    )
    assert late.payee == customer.name


def test_beancounts_checker_refuses_a_journal_with_a_cent_too_many(customer):
    text = exported("beancount", customer)
    where = text.index("Income:Fees", text.index('"Fees of a day"'))
    broken = text[:where] + text[where:].replace("3.22", "3.23", 1)
    assert broken != text
    assert loader.load_string(broken)[1]


def test_hledger_reads_the_journal_by_its_manual_with_the_same_balances(customer):
    found = hledger.read(exported("hledger", customer))
    expected = booked(customer)
    assert {name: amount for (name, _), amount in found.balances.items() if amount} == {
        chart.ACCOUNTS[account].name: amount for account, amount in expected.items()
    }
    assert found.asserted >= len(expected)
    assert found.transactions > 40


def test_a_part_of_the_journal_balances_too(customer):
    part = {"first": date(2026, 10, 12), "last": date(2026, 10, 20)}
    assert loader.load_string(exported("beancount", customer, **part))[1] == []
    found = hledger.read(exported("hledger", customer, **part))
    assert found.asserted == 0
    assert found.transactions == 12


def test_the_csv_is_safe_to_open_and_adds_up(customer):
    rows = list(csv.DictReader(io.StringIO(exported("csv", customer))))
    assert {row["customer"] for row in rows} == {"'@acme"}
    assert rows[0]["customer_name"].startswith("'=HYPERLINK")
    totals = [sum(Decimal(row[side] or 0) for row in rows) for side in ("debit", "credit")]
    assert totals[0] == totals[1] > 0
    assert sum(Decimal(row["exact"]) for row in rows) == 0
    for row in rows:
        assert not row["debit"] or not row["credit"]


def test_the_command_writes_a_new_file_and_says_what_is_wrong(customer, tmp_path):
    file = tmp_path / "books.beancount"

    def told(*arguments):
        out = StringIO()
        call_command("export_journal", *arguments, stdout=out)
        return out.getvalue()

    said = told("--format", "beancount", "-o", str(file))
    assert said.endswith(f"transactions of 2026-10-01 to 2026-11-02 in {file}.\n")
    assert file.read_text() == exported("beancount", customer)
    part = ["--format", "csv", "--from", "2026-11-01", "--to", "2027-01-01", "--json"]
    assert json.loads(told(*part, "-o", str(tmp_path / "november.csv"))) == {
        "file": str(tmp_path / "november.csv"),
        "from": "2026-11-01",
        "to": "2026-11-02",
        "transactions": 5,
    }
    for arguments, refusal in (
        (["-o", str(file)], "is there already: name a new file"),
        (["-o", str(tmp_path / "no" / "where")], "can't write .*: No such file"),
        (["-o", "x", "--from", "2027-01-01"], "nothing is closed from 2027-01-01"),
        (["-o", "x", "--to", "soon"], "--to soon: not a day such as"),
    ):
        with pytest.raises(CommandError, match=refusal):
            told("--format", "csv", *arguments)


def test_before_a_day_is_closed_there_is_nothing_to_export(tmp_path):
    builders.shop()
    with pytest.raises(CommandError, match=r"no day is closed yet: run manage\.py close_books"):
        call_command("export_journal", "--format", "csv", "-o", str(tmp_path / "x"))
