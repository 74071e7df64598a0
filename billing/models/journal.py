"""The journal: the vendor's books, day by day.

A day is closed once, with all its lines, in one transaction: the database refuses lines that do
not balance in each currency, and lines that come to a closed day later. What is learnt later is
booked on the first day that is open, and its line says when it happened.

Each line has its exact amount in micros and the amount that is booked, both below 0 on the credit
side. Of each customer's account the booked balance is the exact one, rounded: what a day leaves
over is `unbooked_micros`, and is carried on.
"""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from billing.models import fields
from billing.models.customers import Customer
from billing.models.vendors import Vendor


class JournalDay(models.Model):
    """A vendor's day (UTC) whose books are closed."""

    vendor = models.ForeignKey(Vendor, models.PROTECT, related_name="journal_days")
    day = models.DateField()
    closed_at = models.DateTimeField()

    class Meta:
        verbose_name = "day of the journal"
        verbose_name_plural = "journal"
        constraints: ClassVar = [
            models.UniqueConstraint(name="journal_day_once", fields=["vendor", "day"]),
        ]

    def __str__(self) -> str:
        return f"{self.day} of {self.vendor}"


class JournalLine(models.Model):
    """One side of a posting: debit above 0, credit below.

    `rule` says which kind of fact it books (billing.books.rules), `subject` which one. What the
    rule has booked of that subject so far, this line included, is `micros_to_date`.
    """

    day = models.ForeignKey(JournalDay, models.PROTECT, related_name="lines")
    customer = models.ForeignKey(Customer, models.PROTECT, related_name="journal_lines")
    rule = models.CharField(max_length=30)
    subject = models.CharField(max_length=60)
    account = models.CharField(max_length=30)
    happened_on = models.DateField(help_text="Before the day: it was learnt of late.")
    currency = fields.currency()
    amount = fields.amount(help_text="As booked.")
    micros = models.BigIntegerField(help_text="Exactly, in millionths of the currency.")
    micros_to_date = models.BigIntegerField()
    unbooked_micros = models.BigIntegerField(
        help_text="What the customer's balance on this account is beyond what is booked of it."
    )

    objects: ClassVar[models.Manager["JournalLine"]] = models.Manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                name="journal_line_once", fields=["day", "rule", "subject", "account"]
            ),
            models.CheckConstraint(
                name="journal_line_carries_less_than_a_unit",
                condition=Q(unbooked_micros__gt=-1_000_000, unbooked_micros__lt=1_000_000),
            ),
        ]
        indexes: ClassVar = [
            models.Index(name="journal_line_subject", fields=["rule", "subject", "id"]),
            models.Index(name="journal_line_series", fields=["customer", "account", "id"]),
        ]

    def __str__(self) -> str:
        return f"{self.account} {self.amount}"
