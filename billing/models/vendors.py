"""Vendors: who sells tokens. Their people are members of their book (ledger.access)."""

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from billing import names


def default_retry_days() -> list[int]:
    return [1, 3, 5, 7]


class Vendor(models.Model):
    """A company that sells AI software by the run. Its accounts and prices are one book."""

    code = models.SlugField(max_length=50, unique=True)
    name = models.CharField(max_length=200, validators=[names.require_plain])
    book_id = models.BigIntegerField(unique=True, help_text="Its book in the ledger.")
    opened_at = models.DateTimeField()
    dunning_retry_days = ArrayField(
        models.PositiveSmallIntegerField(validators=[MinValueValidator(1), MaxValueValidator(60)]),
        default=default_retry_days,
        blank=True,
        size=8,
        help_text="Days after a payment failed on which the card is charged again.",
    )
    dunning_grace_days = models.PositiveSmallIntegerField(
        default=7,
        validators=[MaxValueValidator(90)],
        help_text="Days after the last of them until what the plan says for payments that fail.",
    )

    def __str__(self) -> str:
        return self.name
