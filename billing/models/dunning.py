"""Recovering payments that failed: what was done about an invoice, and what its customer lost."""

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from billing.models.customers import Customer
from billing.models.invoices import Invoice


class DunningStep(models.Model):
    """Something was done about an invoice that is not paid: each step once."""

    class Kind(models.TextChoices):
        OVERDUE = "overdue", "its day has passed"
        AGAIN = "again", "charged again, or asked for again"
        NEW_CARD = "new_card", "charged to a card that was chosen since"
        LAST_NOTICE = "last_notice", "told what comes next"

    invoice = models.ForeignKey(Invoice, models.PROTECT, related_name="dunning_steps")
    kind = models.CharField(max_length=20, choices=Kind)
    number = models.BigIntegerField(
        default=0, help_text="Which of the schedule's days, or which choice of a card."
    )
    charges = models.BooleanField(help_text="The card was charged; else people were told.")
    taken_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(name="dunning_step_once", fields=["invoice", "kind", "number"]),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.invoice}"


class Restriction(models.Model):
    """A customer gets no new holds for want of this payment, until `lifted_at`."""

    invoice = models.OneToOneField(Invoice, models.PROTECT, related_name="restriction")
    customer = models.ForeignKey(Customer, models.PROTECT, related_name="restrictions")
    restricted_at = models.DateTimeField()
    lifted_at = models.DateTimeField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                name="restriction_lifted_after_it_began",
                condition=Q(lifted_at__isnull=True) | Q(lifted_at__gte=F("restricted_at")),
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                name="restriction_open", fields=["customer"], condition=Q(lifted_at__isnull=True)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.customer} for {self.invoice}"
