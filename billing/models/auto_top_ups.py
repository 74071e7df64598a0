"""Tokens that buy themselves: what a customer asked for, what came of it, and why nothing did."""

import uuid
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from billing.models import fields
from billing.models.catalog import TopUpPack
from billing.models.customers import Customer
from billing.models.methods import PaymentMethod
from billing.models.top_ups import TopUp


class AutoTopUp(models.Model):
    """A customer wants a pack bought whenever it has fewer tokens than a threshold.

    On until it is turned off. What it asks for never changes: other terms are a new row.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    customer = models.ForeignKey(Customer, models.PROTECT, related_name="auto_top_ups")
    pack = models.ForeignKey(TopUpPack, models.PROTECT, related_name="+")
    threshold_microtokens = models.BigIntegerField()
    currency = fields.currency()
    ceiling = fields.amount(help_text="At most so much a calendar month, before tax.")
    turned_on_at = models.DateTimeField()
    turned_on_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+"
    )
    turned_off_at = models.DateTimeField(null=True)
    turned_off_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+"
    )

    objects: ClassVar[models.Manager["AutoTopUp"]] = models.Manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                name="auto_top_up_one_at_a_time",
                fields=["customer"],
                condition=Q(turned_off_at__isnull=True),
            ),
            models.CheckConstraint(
                name="auto_top_up_below_something", condition=Q(threshold_microtokens__gt=0)
            ),
            models.CheckConstraint(name="auto_top_up_has_a_ceiling", condition=Q(ceiling__gt=0)),
            models.CheckConstraint(
                name="auto_top_up_off_after_on",
                condition=Q(turned_off_at__isnull=True) | Q(turned_off_at__gte=F("turned_on_at")),
            ),
        ]

    def __str__(self) -> str:
        return f"auto-top-up of {self.customer}"


class TopUpCharge(models.Model):
    """A top-up for which a kept card is charged, nobody being there. One at a time a customer.

    It ends when the tokens are granted, or when the charge has failed.
    """

    top_up = models.OneToOneField(TopUp, models.PROTECT, related_name="charge")
    customer = models.ForeignKey(Customer, models.PROTECT, related_name="top_up_charges")
    auto_top_up = models.ForeignKey(AutoTopUp, models.PROTECT, related_name="charges")
    method = models.ForeignKey(PaymentMethod, models.PROTECT, related_name="+")
    month = models.DateField(help_text="Its first day, where the customer's days begin.")
    available_microtokens = models.BigIntegerField(help_text="What was there, less what was owed.")
    minor_units = models.BigIntegerField(
        null=True, help_text="What is charged, with tax. Empty: not worked out yet."
    )
    stripe_payment_intent_id = models.CharField(max_length=255, blank=True)
    begun_at = models.DateTimeField()
    failed_at = models.DateTimeField(null=True)
    code = models.CharField(max_length=100, blank=True)
    message = models.TextField(blank=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                name="top_up_charge_one_at_a_time",
                fields=["customer"],
                condition=Q(ended_at__isnull=True),
            ),
            models.CheckConstraint(
                name="top_up_charge_failed_is_ended",
                condition=Q(failed_at__isnull=True) | Q(ended_at__isnull=False),
            ),
        ]
        indexes: ClassVar = [models.Index(name="top_up_charge_month", fields=["customer", "month"])]

    def __str__(self) -> str:
        return f"charge of {self.top_up}"


class AutoTopUpPause(models.Model):
    """A bank said no: nothing is bought until the day named, or until somebody resumes it."""

    class Reason(models.TextChoices):
        AUTHENTICATION = "authentication", "the bank wants to hear from the cardholder"
        HARD_DECLINE = "hard_decline", "the bank will not accept this card again"
        SOFT_DECLINE = "soft_decline", "the bank declined this time"
        SOFT_DECLINES = "soft_declines", "the bank declined several times in a row"
        ADDRESS = "address", "your address is missing, without which tax cannot be worked out"

    auto_top_up = models.ForeignKey(AutoTopUp, models.PROTECT, related_name="pauses")
    charge = models.OneToOneField(TopUpCharge, models.PROTECT, related_name="pause")
    reason = models.CharField(max_length=20, choices=Reason)
    paused_at = models.DateTimeField()
    until = models.DateTimeField(null=True, help_text="Empty: until somebody resumes it.")
    resumed_at = models.DateTimeField(null=True)
    resumed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+"
    )

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                name="auto_top_up_pause_ends_after_it_began",
                condition=Q(until__isnull=True) | Q(until__gt=F("paused_at")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_reason_display()}: {self.auto_top_up}"


class AutoTopUpWithheld(models.Model):
    """There were too few tokens, and nothing was bought: why. Noted when the reason changes."""

    auto_top_up = models.ForeignKey(AutoTopUp, models.PROTECT, related_name="withheld")
    reason = models.CharField(max_length=30)
    words = models.TextField()
    available_microtokens = models.BigIntegerField()
    noted_at = models.DateTimeField()

    class Meta:
        indexes: ClassVar = [
            models.Index(name="auto_top_up_withheld_latest", fields=["auto_top_up", "-id"])
        ]

    def __str__(self) -> str:
        return f"{self.reason}: {self.auto_top_up}"
