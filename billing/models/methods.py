"""Ways to pay that customers keep at Stripe. We know a card by its brand and last digits only."""

import uuid
from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from billing.models.customers import Customer


class PaymentMethod(models.Model):
    """A card (or another way to pay) that a customer has given, from `attached_at` on.

    What people know it by is as Stripe shows it: banks renew cards, and Stripe hears of it.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    customer = models.ForeignKey(Customer, models.PROTECT, related_name="payment_methods")
    stripe_payment_method_id = models.CharField(max_length=255, unique=True)
    kind = models.CharField(max_length=50, help_text="As Stripe names it: card, sepa_debit.")
    brand = models.CharField(max_length=50, blank=True)
    last4 = models.CharField(max_length=10, blank=True)
    expires_year = models.PositiveSmallIntegerField(null=True)
    expires_month = models.PositiveSmallIntegerField(null=True)
    attached_at = models.DateTimeField()
    detached_at = models.DateTimeField(null=True, help_text="It cannot be charged any more.")

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                name="payment_method_expires_in_a_month",
                condition=Q(expires_month__isnull=True, expires_year__isnull=True)
                | Q(expires_month__gte=1, expires_month__lte=12, expires_year__isnull=False),
            ),
            models.CheckConstraint(
                name="payment_method_detached_after_attached",
                condition=Q(detached_at__isnull=True) | Q(detached_at__gte=F("attached_at")),
            ),
        ]
        indexes: ClassVar = [models.Index(name="payment_method_of", fields=["customer"])]

    def __str__(self) -> str:
        """As people know it: Visa ending in 4242."""
        name = (self.brand or self.kind).replace("_", " ").capitalize()
        return f"{name} ending in {self.last4}" if self.last4 else name


class PaymentMethodChoice(models.Model):
    """From now on this is what the customer is charged with; the latest choice counts."""

    customer = models.ForeignKey(Customer, models.PROTECT, related_name="method_choices")
    method = models.ForeignKey(PaymentMethod, models.PROTECT, related_name="choices")
    chosen_at = models.DateTimeField()

    class Meta:
        indexes: ClassVar = [models.Index(name="method_choice_of", fields=["customer", "id"])]

    def __str__(self) -> str:
        return f"{self.customer} chose {self.method}"


class CardSetup(models.Model):
    """A customer set out to give a card on Stripe's page, without buying anything.

    The dates tell how far it came; a card that was saved is final.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    customer = models.ForeignKey(Customer, models.PROTECT, related_name="card_setups")
    begun_at = models.DateTimeField()
    stripe_session_id = models.CharField(max_length=255, null=True, unique=True)  # noqa: DJ001 - unique once known
    url = models.TextField(blank=True)
    opened_at = models.DateTimeField(null=True)
    expired_at = models.DateTimeField(null=True, help_text="The customer did not come back.")
    method = models.ForeignKey(PaymentMethod, models.PROTECT, null=True, related_name="setups")
    saved_at = models.DateTimeField(null=True)
    sync_token = models.BigIntegerField(default=0, editable=False)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                name="card_setup_opened_as_a_session",
                condition=Q(opened_at__isnull=True, stripe_session_id__isnull=True)
                | Q(opened_at__isnull=False, stripe_session_id__isnull=False),
            ),
            models.CheckConstraint(
                name="card_setup_saves_a_method",
                condition=Q(saved_at__isnull=True, method__isnull=True)
                | Q(saved_at__isnull=False, method__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"card setup {self.id}"
