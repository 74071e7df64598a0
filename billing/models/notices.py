"""Notices: mails to the people of a customer about its payments, each written once."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from billing.models.customers import Customer


class Notice(models.Model):
    """What people of a customer, and its account manager, are told about a payment.

    `about` says what happened, and to what: told once, however often it is noticed.
    """

    customer = models.ForeignKey(Customer, models.PROTECT, related_name="notices")
    about = models.CharField(max_length=200, unique=True)
    subject = models.CharField(max_length=300)
    body = models.TextField()
    written_at = models.DateTimeField()
    tries = models.PositiveIntegerField(default=0, editable=False)
    next_try_at = models.DateTimeField(null=True, editable=False)
    leased_until = models.DateTimeField(null=True, editable=False)
    sent_at = models.DateTimeField(null=True, editable=False)
    parked_at = models.DateTimeField(
        null=True, editable=False, help_text="Given up after many tries: no mail server took it."
    )
    error = models.TextField(blank=True, editable=False, help_text="Why the last try failed.")

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                name="notice_ends_once",
                condition=Q(sent_at__isnull=True) | Q(parked_at__isnull=True),
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                name="notice_to_send",
                fields=["id"],
                condition=Q(sent_at__isnull=True, parked_at__isnull=True),
            ),
        ]

    def __str__(self) -> str:
        return self.subject
