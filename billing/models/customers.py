"""Customers: who buys tokens, and their people."""

import uuid
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q

from billing import names
from billing.models.vendors import Vendor


class Customer(models.Model):
    """A company that buys tokens: one account in the ledger, one customer at Stripe.

    Its runs name the account by this `code`. Currency and account never change; whether it pays
    by card or on receipt of an invoice is told by `payment_days`.
    """

    # How Stripe knows it: in metadata and in idempotency keys.
    reference = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    vendor = models.ForeignKey(Vendor, models.PROTECT, related_name="customers")
    code = models.CharField(max_length=100)
    name = models.CharField(max_length=200, validators=[names.require_plain])
    email = models.EmailField()
    account_id = models.BigIntegerField(unique=True, help_text="Its account in the ledger.")
    currency = models.CharField(max_length=3)
    time_zone = models.CharField(max_length=64, help_text="Where its periods begin and end.")
    account_manager = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="managed_customers",
    )
    payment_days = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="Days to pay an invoice. Empty: the card is charged."
    )
    stripe_payment_method_id = models.CharField(
        max_length=255, blank=True, help_text="The first card, when one is known already."
    )
    stripe_customer_id = models.CharField(max_length=255, blank=True, editable=False)
    opened_at = models.DateTimeField()
    # Counts the times we asked Stripe about it: an answer is applied only if it is the latest.
    sync_token = models.BigIntegerField(default=0, editable=False)
    asked_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(name="customer_code_once", fields=["vendor", "code"]),
            models.UniqueConstraint(
                name="customer_at_stripe_once",
                fields=["stripe_customer_id"],
                condition=~Q(stripe_customer_id=""),
            ),
            models.CheckConstraint(
                name="customer_currency_code", condition=Q(currency__regex="^[A-Z]{3}$")
            ),
        ]

    def __str__(self) -> str:
        return self.name


class CustomerMember(models.Model):
    """A person of the customer, and what they may do in its portal."""

    class Role(models.TextChoices):
        ADMIN = "admin", "administrator"
        BUYER = "buyer", "buyer"
        FINANCE = "finance", "finance"
        VIEWER = "viewer", "viewer"

    customer = models.ForeignKey(Customer, models.PROTECT, related_name="members")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, related_name="customer_members"
    )
    role = models.CharField(max_length=20, choices=Role)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(name="customer_member_once", fields=["customer", "user"]),
        ]

    def __str__(self) -> str:
        return f"{self.user} ({self.get_role_display()})"
