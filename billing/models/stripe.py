"""What goes to Stripe, and what comes from it: the outbox and the inbox."""

from typing import ClassVar

from django.db import models
from django.db.models import Q


class StripeCall(models.Model):
    """One request to Stripe, written down with the decision that wants it and sent afterwards.

    Its idempotency key and parameters never change, so sending it again is asking for the same
    answer. It waits for the call it comes `after`. Three dates end it: Stripe did it, Stripe
    refused it, or it is parked because nobody knows (or something does not add up) and repeating
    could do harm.
    """

    operation = models.CharField(max_length=50)
    aggregate_id = models.UUIDField(help_text="The row of ours it is about.")
    attempt = models.PositiveSmallIntegerField(default=1)
    idempotency_key = models.CharField(max_length=255, unique=True)
    params = models.JSONField()
    after = models.ForeignKey("self", models.PROTECT, null=True, related_name="followers")
    created_at = models.DateTimeField()

    tries = models.PositiveIntegerField(default=0)
    first_sent_at = models.DateTimeField(null=True)
    next_try_at = models.DateTimeField(null=True)
    leased_until = models.DateTimeField(null=True)
    request_digest = models.CharField(max_length=64, blank=True)

    done_at = models.DateTimeField(null=True)
    refused_at = models.DateTimeField(null=True)
    parked_at = models.DateTimeField(null=True)
    stripe_id = models.CharField(max_length=255, blank=True)
    stripe_request_id = models.CharField(max_length=255, blank=True)
    http_status = models.PositiveSmallIntegerField(null=True)
    error_code = models.CharField(max_length=100, blank=True)
    error_message = models.TextField(blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                name="stripe_call_attempt_once", fields=["operation", "aggregate_id", "attempt"]
            ),
            models.CheckConstraint(
                name="stripe_call_ends_once",
                condition=Q(done_at__isnull=True, refused_at__isnull=True)
                | Q(done_at__isnull=True, parked_at__isnull=True)
                | Q(refused_at__isnull=True, parked_at__isnull=True),
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                name="stripe_call_waiting",
                fields=["id"],
                condition=Q(done_at__isnull=True, refused_at__isnull=True, parked_at__isnull=True),
            ),
            models.Index(name="stripe_call_of", fields=["aggregate_id", "operation"]),
        ]

    def __str__(self) -> str:
        return self.idempotency_key


class StripeEvent(models.Model):
    """An event that Stripe sent, kept exactly as it was verified. It only says where to look.

    Stripe sends events at least once and in any order:
    https://docs.stripe.com/webhooks#handle-duplicate-events
    Seen is not done: `done_at` is set by whoever has acted on it.
    """

    class Source(models.TextChoices):
        WEBHOOK = "webhook"
        POLL = "poll"

    event_id = models.CharField(max_length=255, unique=True)
    type = models.CharField(max_length=120)
    object_type = models.CharField(max_length=64)
    object_id = models.CharField(max_length=255)
    api_version = models.CharField(max_length=50, blank=True)
    livemode = models.BooleanField()
    source = models.CharField(max_length=10, choices=Source)
    payload = models.TextField()
    stripe_created_at = models.DateTimeField()
    received_at = models.DateTimeField()

    tries = models.PositiveIntegerField(default=0)
    next_try_at = models.DateTimeField(null=True)
    leased_until = models.DateTimeField(null=True)
    done_at = models.DateTimeField(null=True)
    ignored_at = models.DateTimeField(null=True, help_text="It is about nothing of ours.")
    parked_at = models.DateTimeField(null=True, help_text="Given up after many tries.")
    error = models.TextField(blank=True)

    class Meta:
        indexes: ClassVar = [
            models.Index(
                name="stripe_event_waiting",
                fields=["id"],
                condition=Q(done_at__isnull=True, ignored_at__isnull=True, parked_at__isnull=True),
            ),
            models.Index(name="stripe_event_about", fields=["object_id"]),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.event_id}"
