"""Invoices as we built them, and what Stripe reported of them.

An invoice is built once for its occasion (a period's opening or closing) and never changes; of late
invoices, for what came in after a customer's last closing, there may be several, and one for each
change within a period. The exact cost
of a line is in micros; its amount is that cost, rounded once.
"""

import uuid
from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from billing.models import fields
from billing.models.customers import Customer


class Invoice(models.Model):
    """What a customer is asked to pay on one occasion."""

    class Occasion(models.TextChoices):
        OPENING = "opening", "first period opened"
        CLOSING = "closing", "period closed"
        LATE = "late", "came in after the last period"
        CHANGE = "change", "changed within a period"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    customer = models.ForeignKey(Customer, models.PROTECT, related_name="invoices")
    period = models.ForeignKey("billing.Period", models.PROTECT, related_name="invoices")
    occasion = models.CharField(max_length=10, choices=Occasion)
    currency = models.CharField(max_length=3)
    built_at = models.DateTimeField()
    # Counts the times we asked Stripe about it: an answer is applied only if it is the latest.
    sync_token = models.BigIntegerField(default=0, editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                name="invoice_once",
                fields=["period", "occasion"],
                condition=Q(occasion__in=["opening", "closing"]),
            ),
        ]
        indexes: ClassVar = [models.Index(name="invoice_built", fields=["built_at"])]

    def __str__(self) -> str:
        return f"invoice {self.id}"


class InvoiceLine(models.Model):
    """One line: what for, which period's, how much exactly, and how much to pay.

    Overage lines name the stretch of the period's overage that they bill, which lies in one of its
    steps (billing.models.overage). A late one may run backwards: by volume, tokens that are given
    back can make the others dearer.
    """

    class Kind(models.TextChoices):
        PLATFORM_FEE = "platform_fee", "platform fee"
        SEATS = "seats", "seats"
        ALLOTMENT = "allotment", "allotment"
        OVERAGE = "overage", "overage"
        LATE_OVERAGE = "late_overage", "overage that came in late"
        FEE_CHANGE = "fee_change", "difference in fees, for the rest of a period"
        ALLOTMENT_CHANGE = "allotment_change", "further allotment, for the rest of a period"
        TRUE_UP = "true_up", "true-up to the commitment"
        CARRIED = "carried", "carried over from an invoice too small to be charged"

    invoice = models.ForeignKey(Invoice, models.PROTECT, related_name="lines")
    position = models.PositiveSmallIntegerField()
    kind = models.CharField(max_length=20, choices=Kind)
    period = models.ForeignKey("billing.Period", models.PROTECT, related_name="invoice_lines")
    description = models.CharField(max_length=500)
    microtokens = models.BigIntegerField(null=True)
    from_microtokens = models.BigIntegerField(null=True)
    to_microtokens = models.BigIntegerField(null=True)
    micros = models.BigIntegerField(help_text="Exact cost, in millionths of the currency.")
    covered_micros = models.BigIntegerField(
        default=0, help_text="Beside it: what the period's true-up has paid for already."
    )
    currency = fields.currency()
    amount = fields.amount()
    carried_from = models.OneToOneField(
        Invoice,
        models.PROTECT,
        null=True,
        related_name="carried_to",
        help_text="The invoice that was too small to be charged.",
    )

    objects: ClassVar[models.Manager["InvoiceLine"]] = models.Manager()

    class Meta:
        ordering: ClassVar = ["invoice_id", "position"]
        constraints: ClassVar = [
            models.UniqueConstraint(name="invoice_line_position", fields=["invoice", "position"]),
            models.UniqueConstraint(
                name="invoice_line_of_a_period_once",
                fields=["period", "kind"],
                condition=Q(kind__in=["platform_fee", "seats", "allotment", "true_up"]),
            ),
            models.UniqueConstraint(
                name="invoice_line_of_a_change_once",
                fields=["invoice", "kind"],
                condition=Q(kind__in=["fee_change", "allotment_change"]),
            ),
            models.CheckConstraint(
                name="invoice_line_overage_is_a_stretch",
                condition=Q(
                    kind__in=[
                        *("platform_fee", "seats", "allotment", "true_up", "carried"),
                        *("fee_change", "allotment_change"),
                    ],
                    from_microtokens__isnull=True,
                )
                | Q(
                    kind__in=["overage", "late_overage"],
                    from_microtokens__gte=0,
                    to_microtokens=F("from_microtokens") + F("microtokens"),
                    to_microtokens__gte=0,
                )
                & ~Q(microtokens=0)
                & (Q(kind="late_overage") | Q(microtokens__gt=0)),
            ),
            models.CheckConstraint(
                name="invoice_line_carried_from_another",
                condition=Q(kind="carried", carried_from__isnull=False)
                & ~Q(carried_from=F("invoice"))
                | ~Q(kind="carried") & Q(carried_from__isnull=True),
            ),
            models.CheckConstraint(
                name="invoice_line_not_negative",
                condition=Q(micros__gte=0, amount__gte=0, covered_micros__gte=0),
            ),
            models.CheckConstraint(
                name="invoice_line_only_late_overage_is_covered",
                condition=Q(covered_micros=0) | Q(kind="late_overage"),
            ),
        ]

    def __str__(self) -> str:
        return self.description


class InvoiceCarried(models.Model):
    """Less than Stripe charges: it is never sent, and stands on the customer's next invoice."""

    invoice = models.OneToOneField(Invoice, models.PROTECT, related_name="carried")
    carried_at = models.DateTimeField()

    objects: ClassVar[models.Manager["InvoiceCarried"]] = models.Manager()

    def __str__(self) -> str:
        return f"{self.invoice}, carried over"


class InvoiceFinalization(models.Model):
    """Stripe has issued the invoice: its number, and where the customer sees and pays it."""

    invoice = models.OneToOneField(Invoice, models.PROTECT, related_name="finalization")
    stripe_invoice_id = models.CharField(max_length=255, unique=True)
    number = models.CharField(max_length=100)
    hosted_url = models.TextField(blank=True)
    currency = fields.currency()
    subtotal = fields.amount(help_text="Before tax.")
    total = fields.amount(help_text="With tax.")
    finalized_at = models.DateTimeField()
    due_at = models.DateTimeField(
        null=True, help_text="Until when it is to be paid. Empty: the card is charged."
    )

    objects: ClassVar[models.Manager["InvoiceFinalization"]] = models.Manager()

    def __str__(self) -> str:
        return self.number


class InvoicePayment(models.Model):
    """The invoice is paid."""

    invoice = models.OneToOneField(Invoice, models.PROTECT, related_name="payment")
    currency = fields.currency()
    amount = fields.amount()
    paid_at = models.DateTimeField()

    objects: ClassVar[models.Manager["InvoicePayment"]] = models.Manager()

    def __str__(self) -> str:
        return f"payment of {self.invoice}"


class InvoicePaymentFailure(models.Model):
    """An attempt to charge the card was declined, whether ours or one of Stripe's own."""

    invoice = models.ForeignKey(Invoice, models.PROTECT, related_name="payment_failures")
    reference = models.CharField(
        max_length=255, help_text="The charge at Stripe; for want of one, the call that asked."
    )
    code = models.CharField(max_length=100)
    decline_code = models.CharField(max_length=100, blank=True, help_text="The bank's reason.")
    message = models.TextField()
    failed_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(name="payment_failure_once", fields=["invoice", "reference"]),
        ]

    def __str__(self) -> str:
        return f"{self.code}: {self.invoice}"


class InvoiceGivenUp(models.Model):
    """The vendor does not expect the money any more: it said so at Stripe.

    What is uncollectible may be paid or voided yet; what is void is not owed.
    """

    class Kind(models.TextChoices):
        VOID = "void", "void"
        UNCOLLECTIBLE = "uncollectible", "uncollectible"

    invoice = models.ForeignKey(Invoice, models.PROTECT, related_name="given_up")
    kind = models.CharField(max_length=20, choices=Kind)
    given_up_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(name="invoice_given_up_once", fields=["invoice", "kind"]),
        ]

    def __str__(self) -> str:
        return f"{self.kind}: {self.invoice}"
