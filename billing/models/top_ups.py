"""Top-ups: a customer set out to buy a pack; what came of it is told by the facts beside it."""

import uuid
from typing import ClassVar

from django.db import models
from django.db.models import Q

from billing.models import fields
from billing.models.catalog import TopUpPack
from billing.models.customers import Customer


class TopUp(models.Model):
    """A purchase: so many of a pack, at once. What it brings and costs was fixed when it began."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    customer = models.ForeignKey(Customer, models.PROTECT, related_name="top_ups")
    pack = models.ForeignKey(TopUpPack, models.PROTECT, related_name="top_ups")
    quantity = models.PositiveSmallIntegerField(default=1, help_text="Packs bought at once.")
    microtokens = models.BigIntegerField(help_text="Of all of them.")
    bonus_microtokens = models.BigIntegerField(default=0, help_text="For free, of all of them.")
    currency = fields.currency()
    price = fields.amount(help_text="Of all of them.")
    validity_months = models.PositiveSmallIntegerField()
    keeps_card = models.BooleanField(
        default=False, help_text="The buyer wants the card kept, to be charged later."
    )
    begun_at = models.DateTimeField()
    # Counts the times we asked Stripe about it: an answer is applied only if it is the latest.
    sync_token = models.BigIntegerField(default=0, editable=False)

    objects: ClassVar[models.Manager["TopUp"]] = models.Manager()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(name="top_up_of_something", condition=Q(microtokens__gt=0)),
            models.CheckConstraint(
                name="top_up_bonus_not_negative", condition=Q(bonus_microtokens__gte=0)
            ),
            models.CheckConstraint(name="top_up_quantity", condition=Q(quantity__gte=1)),
            models.CheckConstraint(name="top_up_has_a_price", condition=Q(price__gt=0)),
        ]
        indexes: ClassVar = [models.Index(name="top_up_begun", fields=["begun_at"])]

    def __str__(self) -> str:
        return f"top-up {self.id}"


class TopUpSession(models.Model):
    """The Checkout session opened for a top-up, and how it went so far.

    None of the dates is the last word: a payment that failed may succeed yet. Only the payment
    and the fulfilment are final.
    """

    top_up = models.OneToOneField(TopUp, models.PROTECT, related_name="session")
    stripe_session_id = models.CharField(max_length=255, unique=True)
    url = models.TextField(blank=True)
    opened_at = models.DateTimeField()
    completed_at = models.DateTimeField(null=True, help_text="The buyer went through Checkout.")
    failed_at = models.DateTimeField(null=True, help_text="The payment was refused.")
    expired_at = models.DateTimeField(null=True, help_text="The buyer did not come back in time.")

    def __str__(self) -> str:
        return self.stripe_session_id


class TopUpPayment(models.Model):
    """The top-up is paid. A payment intent pays one top-up."""

    top_up = models.OneToOneField(TopUp, models.PROTECT, related_name="payment")
    stripe_payment_intent_id = models.CharField(max_length=255, unique=True)
    currency = fields.currency()
    amount = fields.amount(help_text="With tax.")
    paid_at = models.DateTimeField()

    objects: ClassVar[models.Manager["TopUpPayment"]] = models.Manager()

    def __str__(self) -> str:
        return self.stripe_payment_intent_id


class TopUpFulfilment(models.Model):
    """The tokens of the top-up are granted."""

    top_up = models.OneToOneField(TopUp, models.PROTECT, related_name="fulfilment")
    lot_id = models.BigIntegerField(unique=True)
    bonus_lot_id = models.BigIntegerField(
        unique=True, null=True, help_text="Of the tokens for free, if there are any."
    )
    fulfilled_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"fulfilment of {self.top_up}"
