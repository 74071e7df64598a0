"""What goes back of a top-up's payment, or may: refunds, disputes, and what that took of its lots.

A refund that is neither succeeded nor failed is under way; one that succeeded may fail days later.
"""

import uuid
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from billing.models import fields
from billing.models.invoices import Invoice
from billing.models.top_ups import TopUp

REASON_LENGTH_MAX = 300


class Refund(models.Model):
    """Money of a top-up that is to go back: asked for here, or found at Stripe."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    top_up = models.ForeignKey(TopUp, models.PROTECT, related_name="refunds")
    currency = fields.currency()
    amount = fields.amount(help_text="With tax.")
    microtokens = models.BigIntegerField(
        null=True,
        help_text="What is taken back. Empty: found at Stripe, its share of the payment decides.",
    )
    reason = models.CharField(max_length=REASON_LENGTH_MAX, blank=True)
    asked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+"
    )
    asked_at = models.DateTimeField()

    objects: ClassVar[models.Manager["Refund"]] = models.Manager()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(name="refund_of_something", condition=Q(amount__gt=0)),
            models.CheckConstraint(
                name="refund_takes_tokens_or_none",
                condition=Q(microtokens__isnull=True) | Q(microtokens__gte=0),
            ),
        ]

    def __str__(self) -> str:
        return f"refund {self.id}"


class RefundAtStripe(models.Model):
    """Stripe knows the refund by this id."""

    refund = models.OneToOneField(Refund, models.PROTECT, related_name="at_stripe")
    stripe_refund_id = models.CharField(max_length=255, unique=True)
    known_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.stripe_refund_id


class RefundSuccess(models.Model):
    """The money is on its way to the customer."""

    refund = models.OneToOneField(Refund, models.PROTECT, related_name="success")
    succeeded_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.refund} succeeded"


class RefundFailure(models.Model):
    """The money is with the vendor after all, and the tokens are with the customer again."""

    class Kind(models.TextChoices):
        FAILED = "failed", "the bank sent it back"
        CANCELED = "canceled", "it was canceled at Stripe"
        REFUSED = "refused", "Stripe refused it"

    refund = models.OneToOneField(Refund, models.PROTECT, related_name="failure")
    kind = models.CharField(max_length=20, choices=Kind)
    message = models.TextField(blank=True)
    failed_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.refund}: {self.get_kind_display()}"


class Dispute(models.Model):
    """A cardholder asked the bank to take back what paid a top-up, or an invoice."""

    stripe_dispute_id = models.CharField(max_length=255, unique=True)
    top_up = models.ForeignKey(TopUp, models.PROTECT, null=True, related_name="disputes")
    invoice = models.ForeignKey(Invoice, models.PROTECT, null=True, related_name="disputes")
    currency = fields.currency()
    amount = fields.amount()
    reason = models.CharField(max_length=100)
    opened_at = models.DateTimeField()

    objects: ClassVar[models.Manager["Dispute"]] = models.Manager()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                name="dispute_of_a_top_up_or_an_invoice",
                condition=Q(top_up__isnull=False, invoice__isnull=True)
                | Q(top_up__isnull=True, invoice__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return self.stripe_dispute_id


class DisputeStatus(models.Model):
    """How the dispute stood, in Stripe's word, from an instant on. The last one counts."""

    dispute = models.ForeignKey(Dispute, models.PROTECT, related_name="statuses")
    status = models.CharField(max_length=50)
    noted_at = models.DateTimeField()

    class Meta:
        ordering: ClassVar = ["id"]

    def __str__(self) -> str:
        return f"{self.dispute}: {self.status}"


class TopUpReversal(models.Model):
    """What a top-up's refunds and disputes came to at an instant, and how its lot stood then.

    What was to be frozen may have been used; what was to be revoked and was used is owed.
    """

    top_up = models.ForeignKey(TopUp, models.PROTECT, related_name="reversals")
    number = models.PositiveIntegerField()
    to_revoke_microtokens = models.BigIntegerField()
    to_freeze_microtokens = models.BigIntegerField()
    revoked_microtokens = models.BigIntegerField()
    frozen_microtokens = models.BigIntegerField()
    owed_microtokens = models.BigIntegerField()
    reversed_at = models.DateTimeField()

    class Meta:
        ordering: ClassVar = ["number"]
        constraints: ClassVar = [
            models.UniqueConstraint(name="top_up_reversal_once", fields=["top_up", "number"]),
            models.CheckConstraint(
                name="top_up_reversal_not_negative",
                condition=Q(
                    to_revoke_microtokens__gte=0,
                    to_freeze_microtokens__gte=0,
                    revoked_microtokens__gte=0,
                    frozen_microtokens__gte=0,
                    owed_microtokens__gte=0,
                ),
            ),
            models.CheckConstraint(
                name="top_up_reversal_within_what_it_asked",
                condition=Q(
                    to_revoke_microtokens__gte=F("revoked_microtokens") + F("owed_microtokens"),
                    to_freeze_microtokens__gte=F("frozen_microtokens"),
                ),
            ),
        ]

    def __str__(self) -> str:
        return f"reversal {self.number} of {self.top_up}"
