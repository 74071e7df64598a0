"""Money that a customer has coming, set against its next invoices."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from billing.models import fields
from billing.models.customers import Customer
from billing.models.invoices import InvoiceLine


class Credit(models.Model):
    """What was paid in advance and is not to be had any more, or is given for another reason."""

    class Reason(models.TextChoices):
        CHANGE = "change", "changed to a plan that costs less"
        CANCELLATION = "cancellation", "cancelled before the period's end"
        GOODWILL = "goodwill", "goodwill"
        OVERAGE = "overage", "overage came to less than was invoiced"

    customer = models.ForeignKey(Customer, models.PROTECT, related_name="credits")
    key = models.CharField(max_length=200, unique=True, help_text="It is given once under it.")
    reason = models.CharField(max_length=20, choices=Reason)
    period = models.ForeignKey(
        "billing.Period",
        models.PROTECT,
        null=True,
        related_name="credits",
        help_text="Of whose price it is a part.",
    )
    description = models.CharField(max_length=300)
    currency = fields.currency()
    amount = fields.amount()
    recorded_at = models.DateTimeField()

    objects: ClassVar[models.Manager["Credit"]] = models.Manager()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(name="credit_of_something", condition=Q(amount__gt=0)),
        ]

    def __str__(self) -> str:
        return self.description


class CreditUse(models.Model):
    """So much of a credit was set against a line, and is used up."""

    credit = models.ForeignKey(Credit, models.PROTECT, related_name="uses")
    line = models.ForeignKey(InvoiceLine, models.PROTECT, related_name="credit_uses")
    currency = fields.currency()
    amount = fields.amount()

    objects: ClassVar[models.Manager["CreditUse"]] = models.Manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(name="credit_use_once", fields=["credit", "line"]),
            models.CheckConstraint(name="credit_use_of_something", condition=Q(amount__gt=0)),
        ]

    def __str__(self) -> str:
        return f"{self.amount} of {self.credit}"
