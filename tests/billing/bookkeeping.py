"""A customer, and its books as tests read them."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from djmoney.money import Money

from billing import invoicing
from billing.books import days
from billing.models import (
    Invoice,
    JournalDay,
    JournalLine,
)
from tests import builders
from tests.builders import DAY, OCTOBER

EURO = 1_000_000
MID = OCTOBER + 10 * DAY
SECOND = timedelta(seconds=1)


def scene(*, time_zone="UTC", starts_at=OCTOBER, **changed):
    shop = builders.shop()
    customer = builders.customer(shop, time_zone=time_zone)
    builders.subscription(customer, builders.plan_version(shop, **changed), starts_at=starts_at)
    return customer


def close(customer, until, *, at=None):
    """The books up to and with the day `until`; a second after it unless told otherwise."""
    last = until.date() if isinstance(until, datetime) else until
    soon_after = datetime(last.year, last.month, last.day, tzinfo=UTC) + DAY + SECOND
    return days.close(vendor_id=customer.vendor_id, until=last, at=at or soon_after)


def exact(customer, *accounts):
    """Balances in micros, debit above 0, of accounts that have one."""
    found: dict[str, int] = defaultdict(int)
    for line in JournalLine.objects.filter(customer=customer):
        found[line.account] += line.micros
    return {one: micros for one, micros in found.items() if micros and one in (accounts or found)}


def booked(customer):
    found: dict[str, Decimal] = defaultdict(Decimal)
    for line in JournalLine.objects.filter(customer=customer):
        found[line.account] += line.amount.amount
    return {one: amount for one, amount in found.items() if amount}


def issue(invoice, *, at, tax=Decimal(0)):
    """As if Stripe had told that it issued the invoice."""
    subtotal = sum((line.amount for line in invoice.lines.all()), start=Money(0, invoice.currency))
    invoicing.record_finalization(
        invoice=invoice,
        stripe_invoice_id=f"in_{invoice.pk}",
        number=f"N-{builders.number()}",
        hosted_url="",
        subtotal=subtotal,
        total=subtotal + Money(tax, invoice.currency),
        finalized_at=at,
    )
    return Invoice.objects.get(pk=invoice.pk)


def pay(invoice, *, at):
    invoicing.record_payment(invoice=invoice, amount=invoice.finalization.total, paid_at=at)


def take_up_books(customer):
    """The first three days of October, as if nothing had been booked before."""
    JournalDay.objects.create(vendor=customer.vendor, day=(OCTOBER - DAY).date(), closed_at=OCTOBER)
    close(customer, OCTOBER + 2 * DAY, at=OCTOBER + 40 * DAY)


JOURNAL = "UPDATE billing_journalline SET"
# What is found of the rules of billing.books.proof.
FAULTS_OF_BOOKS = {
    "a day of the journal is balanced, in each currency": [
        f"{JOURNAL} amount = amount + 0.01 WHERE account = 'revenue_fees'",
        f"{JOURNAL} micros = micros + 1 WHERE account = 'revenue_fees'",
        "DELETE FROM billing_journalline WHERE account = 'deferred_fees'",
    ],
    "what the books have of a thing is the sum of what they posted of it": [
        f"{JOURNAL} micros = micros + 1 WHERE rule = 'fee_earned'",
        f"{JOURNAL} micros_to_date = 0 WHERE rule = 'invoiced'",
    ],
    "a booked balance is the exact one but for the part of a cent that is carried": [
        f"{JOURNAL} unbooked_micros = 0 WHERE rule = 'fee_earned'",
        f"{JOURNAL} amount = amount + 0.01 WHERE account = 'deferred_fees'",
    ],
    "the days of a vendor's books follow one another, and are over when they are closed": [
        "DELETE FROM billing_journalday WHERE day = '2026-10-02'",
        "UPDATE billing_journalday SET closed_at = day WHERE day = '2026-10-02'",
    ],
    "a line of the journal is of a customer of its vendor, in that customer's currency": [
        f"{JOURNAL} currency = 'USD'",
        f"{JOURNAL} happened_on = '2027-01-01'",
    ],
    "deferred revenue is the value of what is left in the lots": [
        f"{JOURNAL} micros = micros + 1 WHERE account = 'deferred_tokens'",
        f"{JOURNAL} micros_to_date = micros_to_date + 1 WHERE rule = 'granted'",
    ],
}
