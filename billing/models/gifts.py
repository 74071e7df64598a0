"""Tokens that a plan gives away."""

from typing import ClassVar

from django.db import models

from billing.models.catalog import Plan
from billing.models.customers import Customer
from billing.models.subscriptions import Subscription


class Gift(models.Model):
    """Free tokens that a plan gave a customer: each kind once, whatever versions follow."""

    class Kind(models.TextChoices):
        TRIAL = "trial", "trial"
        WELCOME = "welcome", "welcome gift"

    customer = models.ForeignKey(Customer, models.PROTECT, related_name="gifts")
    plan = models.ForeignKey(Plan, models.PROTECT, related_name="gifts")
    kind = models.CharField(max_length=10, choices=Kind)
    subscription = models.ForeignKey(Subscription, models.PROTECT, related_name="gifts")
    lot_id = models.BigIntegerField(unique=True)
    given_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                name="gift_once_a_customer_and_plan", fields=["customer", "plan", "kind"]
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} of {self.plan} to {self.customer}"
