"""Pilots: plans that only some customers are offered, for a time."""

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from billing import names
from billing.models.catalog import Plan
from billing.models.customers import Customer
from billing.models.vendors import Vendor


class Cohort(models.Model):
    """Customers who try something together."""

    vendor = models.ForeignKey(Vendor, models.PROTECT, related_name="cohorts")
    name = models.CharField(max_length=100, validators=[names.require_plain])

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(name="cohort_name_once", fields=["vendor", "name"]),
        ]

    def __str__(self) -> str:
        return self.name


class CohortMember(models.Model):
    """A customer is in a cohort. Whoever leaves it keeps the plan that it is on."""

    cohort = models.ForeignKey(Cohort, models.CASCADE, related_name="members")
    customer = models.ForeignKey(Customer, models.PROTECT, related_name="cohort_members")

    class Meta:
        verbose_name = "customer"
        constraints: ClassVar = [
            models.UniqueConstraint(name="cohort_member_once", fields=["cohort", "customer"]),
        ]

    def __str__(self) -> str:
        return str(self.customer)


class CohortOffer(models.Model):
    """A plan is offered to a cohort for a time: a plan with offers is for their cohorts alone."""

    cohort = models.ForeignKey(Cohort, models.CASCADE, related_name="offers")
    plan = models.ForeignKey(Plan, models.PROTECT, related_name="offers")
    from_at = models.DateTimeField("from")
    until_at = models.DateTimeField("until", null=True, blank=True, help_text="Empty: no end.")

    class Meta:
        verbose_name = "offer"
        constraints: ClassVar = [
            models.UniqueConstraint(name="cohort_offer_once", fields=["cohort", "plan"]),
            models.CheckConstraint(
                name="cohort_offer_ends_after_start",
                condition=Q(until_at__isnull=True) | Q(until_at__gt=F("from_at")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.plan} to {self.cohort}"
