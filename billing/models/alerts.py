"""Alerts: how much of a period's allotment is used, told at the thresholds of its plan."""

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q

from billing.models.subscriptions import Period


class AlertMessage(models.Model):
    """What people are told at once: the highest of the thresholds that one look found crossed."""

    period = models.ForeignKey(Period, models.PROTECT, related_name="alert_messages")
    threshold = models.PositiveSmallIntegerField(help_text="Per cent.")
    used_microtokens = models.BigIntegerField()
    granted_microtokens = models.BigIntegerField()
    raised_at = models.DateTimeField()
    tries = models.PositiveIntegerField(default=0, editable=False)
    next_try_at = models.DateTimeField(null=True, editable=False)
    leased_until = models.DateTimeField(null=True, editable=False)
    sent_at = models.DateTimeField(null=True, editable=False)
    parked_at = models.DateTimeField(
        null=True, editable=False, help_text="Given up after many tries: no mail server took it."
    )
    error = models.TextField(blank=True, editable=False, help_text="Why the last try failed.")
    acknowledged_at = models.DateTimeField(null=True, editable=False)
    acknowledged_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, editable=False, related_name="+"
    )

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                name="alert_message_acknowledged_by_someone",
                condition=Q(acknowledged_at__isnull=True, acknowledged_by__isnull=True)
                | Q(acknowledged_at__isnull=False, acknowledged_by__isnull=False),
            ),
            models.CheckConstraint(
                name="alert_message_ends_once",
                condition=Q(sent_at__isnull=True) | Q(parked_at__isnull=True),
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                name="alert_message_to_send",
                fields=["id"],
                condition=Q(sent_at__isnull=True, parked_at__isnull=True),
            ),
            models.Index(
                name="alert_message_open", fields=["id"], condition=Q(acknowledged_at__isnull=True)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.threshold} % of {self.period}"


class Alert(models.Model):
    """A threshold was reached. Once a period, unless a top-up took it out of reach again."""

    message = models.ForeignKey(AlertMessage, models.PROTECT, related_name="alerts")
    period = models.ForeignKey(Period, models.PROTECT, related_name="alerts")
    threshold = models.PositiveSmallIntegerField(help_text="Per cent.")
    raised_at = models.DateTimeField()
    rearmed_at = models.DateTimeField(
        null=True, editable=False, help_text="A top-up brought the share below the threshold."
    )

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                name="alert_once",
                fields=["period", "threshold"],
                condition=Q(rearmed_at__isnull=True),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.threshold} % of {self.period}"
