"""What a token is, what is measured, and what each measure costs in tokens.

A rate card is a list of effective-dated versions. A published version never changes (the
database refuses it): a new price is a new version with its own date. Each inference takes the
version in force at its own time, and from it the most specific rate. A version that was wrong is
corrected by another from the same instant on: of two such versions the one published last rules.
"""

from typing import ClassVar

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Q

from ledger.models.books import Book
from ledger.units import QUANTITY_MAX, RUN_MICROTOKENS_MAX


class Unit(models.Model):
    """The definition of a token: the vendor's measure of value."""

    book = models.ForeignKey(Book, models.PROTECT, related_name="units")
    code = models.SlugField(max_length=50)
    name = models.CharField(max_length=100)
    sentence = models.CharField(
        max_length=300, help_text="One sentence that a buyer understands: what is one token?"
    )

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(name="unit_code_once", fields=["book", "code"]),
        ]

    def __str__(self) -> str:
        return self.name


class Meter(models.Model):
    """A measured quantity: executions, rows, input_tokens, seconds."""

    book = models.ForeignKey(Book, models.PROTECT, related_name="meters")
    code = models.SlugField(max_length=50)
    name = models.CharField(max_length=100)
    part_of = models.ForeignKey(
        "self",
        models.PROTECT,
        null=True,
        blank=True,
        related_name="parts",
        help_text="The meter that counts these too, as input_tokens counts cached_input_tokens. "
        "What has a rate of its own is taken out of the whole, so it is never paid twice.",
    )

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(name="meter_code_once", fields=["book", "code"]),
            models.CheckConstraint(
                name="meter_part_of_an_older_one",
                condition=Q(part_of__isnull=True) | Q(part_of__lt=F("id")),
                violation_error_message="A meter can be part only of one that was made before it.",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Engine(models.Model):
    """A model or an algorithm that does the work."""

    book = models.ForeignKey(Book, models.PROTECT, related_name="engines")
    code = models.CharField(max_length=100)
    name = models.CharField(max_length=100)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(name="engine_code_once", fields=["book", "code"]),
        ]

    def __str__(self) -> str:
        return self.name


class Workflow(models.Model):
    """What is executed ("ritual"). Needs no row to be used; a row gives it a cost centre."""

    book = models.ForeignKey(Book, models.PROTECT, related_name="workflows")
    code = models.CharField(max_length=100)
    name = models.CharField(max_length=100)
    default_cost_centre = models.CharField(max_length=100, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(name="workflow_code_once", fields=["book", "code"]),
        ]

    def __str__(self) -> str:
        return self.name


class RateCard(models.Model):
    """Prices in tokens of one unit."""

    book = models.ForeignKey(Book, models.PROTECT, related_name="rate_cards")
    unit = models.ForeignKey(Unit, models.PROTECT, related_name="rate_cards")
    code = models.SlugField(max_length=50)
    name = models.CharField(max_length=100)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(name="rate_card_code_once", fields=["book", "code"]),
        ]

    def __str__(self) -> str:
        return self.name


class RateCardVersion(models.Model):
    """The rates from one instant on, until the next version's."""

    rate_card = models.ForeignKey(RateCard, models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    effective_at = models.DateTimeField(help_text="Inferences from this instant on take it.")
    published_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(name="rate_card_number_once", fields=["rate_card", "number"]),
        ]

    def __str__(self) -> str:
        return f"{self.rate_card} v{self.number}"


class Rate(models.Model):
    """`microtokens` for every `per_quantity` of a meter, for an engine, a workflow, both or any."""

    version = models.ForeignKey(RateCardVersion, models.CASCADE, related_name="rates")
    meter = models.ForeignKey(Meter, models.PROTECT, related_name="rates")
    engine = models.ForeignKey(
        Engine, models.PROTECT, null=True, blank=True, related_name="rates", help_text="Empty: any."
    )
    workflow = models.CharField(max_length=100, blank=True, help_text="Its code. Empty: any.")
    microtokens = models.BigIntegerField(
        validators=[MinValueValidator(0)], help_text="1 token = 1,000,000 microtokens."
    )
    per_quantity = models.BigIntegerField(default=1, validators=[MinValueValidator(1)])
    block_quantity = models.BigIntegerField(
        default=1,
        validators=[MinValueValidator(1)],
        help_text="Quantities are rounded up to a multiple of this.",
    )
    minimum_microtokens = models.BigIntegerField(
        default=0, validators=[MinValueValidator(0)], help_text="What a run costs here at least."
    )

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                name="rate_once",
                fields=["version", "meter", "engine", "workflow"],
                nulls_distinct=False,
            ),
            models.CheckConstraint(
                name="rate_in_range",
                condition=Q(microtokens__gte=0, microtokens__lte=RUN_MICROTOKENS_MAX)
                & Q(per_quantity__gte=1, per_quantity__lte=QUANTITY_MAX)
                & Q(block_quantity__gte=1, block_quantity__lte=QUANTITY_MAX)
                & Q(minimum_microtokens__gte=0, minimum_microtokens__lte=RUN_MICROTOKENS_MAX),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.microtokens} microtokens per {self.per_quantity} {self.meter}"
