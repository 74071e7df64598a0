"""Credit notes: an invoice that was issued asks for less, or its money goes back.

A note is asked for by lines, before tax. Stripe books the tax, and says how much of the note was
taken off what is due and how much is paid back. A note that Stripe refused is over.
"""

import uuid
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q

from billing.models import fields
from billing.models.invoices import Invoice, InvoiceLine

MEMO_LENGTH_MAX = 500


class CreditNote(models.Model):
    """What the vendor decided to take off an invoice."""

    class Reason(models.TextChoices):  # Stripe's
        NONE = "", "another reason"
        DUPLICATE = "duplicate", "invoiced twice"
        FRAUDULENT = "fraudulent", "fraudulent"
        ORDER_CHANGE = "order_change", "the order changed"
        UNSATISFACTORY = "product_unsatisfactory", "not as it should be"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    invoice = models.ForeignKey(Invoice, models.PROTECT, related_name="credit_notes")
    reason = models.CharField(max_length=30, choices=Reason, blank=True)
    memo = models.CharField(max_length=MEMO_LENGTH_MAX, blank=True)
    is_out_of_band = models.BooleanField(
        default=False, help_text="What is paid back is paid otherwise, not refunded by Stripe."
    )
    asked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+"
    )
    asked_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"credit note {self.id}"


class CreditNoteLine(models.Model):
    """So much of a line of the invoice, before tax."""

    credit_note = models.ForeignKey(CreditNote, models.PROTECT, related_name="lines")
    line = models.ForeignKey(InvoiceLine, models.PROTECT, related_name="credits")
    currency = fields.currency()
    amount = fields.amount()

    objects: ClassVar[models.Manager["CreditNoteLine"]] = models.Manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(name="credit_note_line_once", fields=["credit_note", "line"]),
            models.CheckConstraint(name="credit_note_line_of_something", condition=Q(amount__gt=0)),
        ]

    def __str__(self) -> str:
        return f"credit of {self.line}"


class CreditNoteIssued(models.Model):
    """Stripe has issued it: its number, and what it comes to with tax."""

    credit_note = models.OneToOneField(CreditNote, models.PROTECT, related_name="issued")
    stripe_credit_note_id = models.CharField(max_length=255, unique=True)
    number = models.CharField(max_length=100)
    pdf_url = models.TextField(blank=True)
    currency = fields.currency()
    subtotal = fields.amount(help_text="Before tax.")
    total = fields.amount(help_text="With tax.")
    taken_off = fields.amount(help_text="Of what was still to be paid.")
    paid_back = fields.amount(help_text="Of what had been paid.")
    issued_at = models.DateTimeField()

    objects: ClassVar[models.Manager["CreditNoteIssued"]] = models.Manager()

    def __str__(self) -> str:
        return self.number


class CreditNoteRefused(models.Model):
    """Stripe refused it: nothing was credited."""

    credit_note = models.OneToOneField(CreditNote, models.PROTECT, related_name="refused")
    message = models.TextField()
    refused_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.credit_note}, refused"


class CreditNoteVoided(models.Model):
    """It was taken back at Stripe before the invoice was paid: the invoice asks for all again."""

    credit_note = models.OneToOneField(CreditNote, models.PROTECT, related_name="voided")
    voided_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.credit_note}, voided"
