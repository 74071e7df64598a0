"""Subscriptions, their periods, and how a period ended.

A period is opened once (its number is unique in the subscription), and with it the lots it grants.
Its end has two facts: the *settlement* says what rolled over and what expired, the *closing* says
what the overage came to and on which invoice it stands. A period without them is still to be
closed.
"""

import uuid
from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from billing.models.catalog import PlanVersion, SizeOption
from billing.models.customers import Customer
from billing.models.invoices import Invoice


class Subscription(models.Model):
    """A customer on the terms of a plan's version, from `begins_at` until its last period ends.

    Other terms are another subscription, which continues it: from the same anchor, with the first
    period after the last one here.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    customer = models.ForeignKey(Customer, models.PROTECT, related_name="subscriptions")
    plan_version = models.ForeignKey(PlanVersion, models.PROTECT, related_name="subscriptions")
    size = models.ForeignKey(
        SizeOption,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="subscriptions",
        help_text="Of a plan that comes in sizes.",
    )
    seats = models.PositiveIntegerField(
        default=0, help_text="Of a plan with a price for each seat. 0: it has none."
    )
    time_zone = models.CharField(max_length=64)
    starts_at = models.DateTimeField(help_text="The anchor: every period's start follows from it.")
    continues = models.ForeignKey(
        "self",
        models.PROTECT,
        null=True,
        blank=True,
        related_name="successors",
        help_text="The subscription whose periods its own follow.",
    )
    months_before = models.PositiveSmallIntegerField(
        default=0, help_text="From the anchor to its first period."
    )
    begins_at = models.DateTimeField(help_text="When its first period starts.")
    trial_starts_at = models.DateTimeField(
        null=True, blank=True, help_text="Of the trial that comes before the first period."
    )
    subscribed_at = models.DateTimeField()
    cancelled_at = models.DateTimeField(
        null=True, blank=True, help_text="No period is opened after this."
    )

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                name="subscription_one_at_a_time",
                fields=["customer"],
                condition=Q(cancelled_at__isnull=True),
            ),
            models.CheckConstraint(
                name="subscription_begins_at_its_anchor_or_continues",
                condition=Q(continues__isnull=True, months_before=0, begins_at=F("starts_at"))
                | Q(continues__isnull=False, begins_at__gt=F("starts_at")),
            ),
            models.CheckConstraint(
                name="subscription_trial_comes_before",
                condition=Q(trial_starts_at__isnull=True)
                | Q(continues__isnull=True, trial_starts_at__lt=F("starts_at")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.customer} on {self.plan_version}"


class Period(models.Model):
    """One term of a subscription, with the lots that it granted."""

    subscription = models.ForeignKey(Subscription, models.PROTECT, related_name="periods")
    number = models.PositiveIntegerField()
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    term_ends_at = models.DateTimeField(
        help_text="When it was to end: sooner, if it was cancelled at once."
    )
    allotment_lot_id = models.BigIntegerField(
        null=True, unique=True, help_text="Empty: nothing is granted, or not before it is paid."
    )
    overage_lot_id = models.BigIntegerField(
        null=True, unique=True, help_text="Empty: overage is not invoiced."
    )
    soft_cap_limit_id = models.BigIntegerField(
        null=True, unique=True, help_text="Empty: nobody is asked before overage is used."
    )
    opened_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(name="period_number_once", fields=["subscription", "number"]),
            models.CheckConstraint(
                name="period_ends_after_start", condition=Q(ends_at__gt=F("starts_at"))
            ),
            models.CheckConstraint(
                name="period_ends_with_its_term_or_sooner",
                condition=Q(ends_at__lte=F("term_ends_at")),
            ),
        ]
        indexes: ClassVar = [models.Index(name="period_ending", fields=["ends_at"])]

    def __str__(self) -> str:
        return f"period {self.number} of {self.subscription}"


class PaidAllotment(models.Model):
    """The allotment of a period whose plan grants it on payment: its invoice is paid."""

    period = models.OneToOneField(Period, models.PROTECT, related_name="paid_allotment")
    invoice = models.ForeignKey(Invoice, models.PROTECT, related_name="paid_allotments")
    lot_id = models.BigIntegerField(unique=True)
    granted_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"allotment of {self.period}"


class PlanChange(models.Model):
    """Other terms from some moment of a period on: what its rest costs more, and grants beside.

    `subscription` has the new terms, and continues with the next period. What the rest costs less
    is a credit; tokens that are granted stay.
    """

    subscription = models.OneToOneField(Subscription, models.PROTECT, related_name="change")
    period = models.ForeignKey(Period, models.PROTECT, related_name="changes")
    changed_at = models.DateTimeField()
    fee_micros = models.BigIntegerField(
        help_text="Of platform fee and seats, for the rest of the period; below 0: credited."
    )
    allotment_micros = models.BigIntegerField()
    allotment_microtokens = models.BigIntegerField()
    allotment_lot_id = models.BigIntegerField(null=True, unique=True)
    invoice = models.OneToOneField(
        Invoice, models.PROTECT, null=True, related_name="change", help_text="Empty: costs nothing."
    )

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                name="plan_change_takes_no_tokens",
                condition=Q(
                    allotment_micros=0, allotment_microtokens=0, allotment_lot_id__isnull=True
                )
                | Q(
                    allotment_micros__gte=0,
                    allotment_microtokens__gt=0,
                    allotment_lot_id__isnull=False,
                ),
            ),
        ]

    def __str__(self) -> str:
        return f"change to {self.subscription} in {self.period}"


class PeriodSettlement(models.Model):
    """What became of the tokens that a period left unused."""

    period = models.OneToOneField(Period, models.PROTECT, related_name="settlement")
    rolled_microtokens = models.BigIntegerField()
    rolled_micros = models.BigIntegerField()
    rolled_lot_id = models.BigIntegerField(null=True, unique=True)
    expired_microtokens = models.BigIntegerField()
    expired_micros = models.BigIntegerField()
    settled_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"settlement of {self.period}"


class PeriodUse(models.Model):
    """What the runs of a cost centre had used in a period when it was closed.

    By these its invoices are shared out to cost centres, for ever: what comes in or is given back
    later does not change a statement that somebody has.
    """

    period = models.ForeignKey(Period, models.PROTECT, related_name="uses")
    cost_centre = models.CharField(max_length=100)
    microtokens = models.BigIntegerField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(name="period_use_once", fields=["period", "cost_centre"]),
            models.CheckConstraint(name="period_use_of_something", condition=Q(microtokens__gt=0)),
        ]

    def __str__(self) -> str:
        return f"use of {self.cost_centre} in {self.period}"


class PeriodClosing(models.Model):
    """A period is over and billed. What comes later for it stands on the next invoice."""

    period = models.OneToOneField(Period, models.PROTECT, related_name="closing")
    overage_microtokens = models.BigIntegerField()
    overage_micros = models.BigIntegerField()
    invoice = models.OneToOneField(
        Invoice,
        models.PROTECT,
        null=True,
        related_name="closing",
        help_text="Empty: nothing to bill.",
    )
    closed_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"closing of {self.period}"
