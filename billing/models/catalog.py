"""What a vendor sells: plans in versions, and top-up packs.

A version is a draft until `published_at`, and from then on frozen: the database refuses to change
it, or to add, change or remove one of its prices, sizes or tiers. A new price is a new version.
"""

from datetime import timedelta
from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q

from billing import names
from billing.models import fields
from billing.models.vendors import Vendor
from billing.pricing import WHOLE_BASIS_POINTS
from ledger.units import LOT_MICROTOKENS_MAX, LOT_PRICE_MICROS_MAX

TERM_MONTHS_MAX = 36
BILLING_POLICIES = ("bill", "review")
TRIAL_DAYS_MAX = 90
VALIDITY_MONTHS_MAX = 120
QUANTITY_MAX = 100  # packs bought at once


def default_alert_thresholds() -> list[int]:
    return [70, 90, 100]


class Plan(models.Model):
    """A plan as buyers know it. What it holds and costs is told by its versions."""

    vendor = models.ForeignKey(Vendor, models.PROTECT, related_name="plans")
    code = models.SlugField(max_length=50)
    name = models.CharField(max_length=100, validators=[names.require_plain])

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(name="plan_code_once", fields=["vendor", "code"]),
        ]

    def __str__(self) -> str:
        return self.name


class PlanVersion(models.Model):
    """One set of terms of a plan. A billing period is one term."""

    class OveragePolicy(models.TextChoices):
        BILL = "bill", "invoice it"
        BLOCK = "block", "do not invoice it"
        REVIEW = "review", "invoice it, once somebody has allowed it"

    class OverageModel(models.TextChoices):
        GRADUATED = "graduated", "graduated: each token at the price of its tier"
        VOLUME = "volume", "volume: all tokens at the price of the tier that they reach"
        PACKAGE = "package", "package: a price for each package that is begun"

    class DunningPolicy(models.TextChoices):
        BLOCK = "block", "no new holds until it is paid"
        NOTHING = "nothing", "work goes on"

    plan = models.ForeignKey(Plan, models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField(editable=False)
    unit_id = models.BigIntegerField(help_text="What a token is.")
    rate_card_id = models.BigIntegerField(help_text="What work costs in tokens.")
    term_months = models.PositiveSmallIntegerField(
        "term (months)", default=1, help_text="1: a month, 3: a quarter, 12: a year."
    )
    allotment_microtokens = models.BigIntegerField(
        "allotment", help_text="Granted at the start of each term. 1 token = 1,000,000 microtokens."
    )
    grant_on_payment = models.BooleanField(
        "grant the allotment on payment",
        default=False,
        help_text="Each period is then invoiced when it begins, and its tokens come when that is"
        " paid. Else they are there from its beginning.",
    )
    overage_policy = models.CharField(
        max_length=10, choices=OveragePolicy, default=OveragePolicy.BLOCK
    )
    overage_model = models.CharField(
        "overage is priced by",
        max_length=10,
        choices=OverageModel,
        default=OverageModel.GRADUATED,
    )
    overage_package_microtokens = models.BigIntegerField(
        "package", null=True, blank=True, help_text="Of overage that is sold by the package."
    )
    overage_cap_microtokens = models.BigIntegerField(
        "hard cap of overage", null=True, blank=True, help_text="For each term. Empty: none."
    )
    overage_soft_cap_microtokens = models.BigIntegerField(
        "soft cap of overage",
        null=True,
        blank=True,
        help_text="For each term: work that would use more waits until somebody allows it."
        " Empty: none.",
    )
    rollover_basis_points = models.PositiveSmallIntegerField(
        "rollover share",
        default=2_000,
        validators=[MaxValueValidator(WHOLE_BASIS_POINTS)],
        help_text="Share of the allotment that may roll over, once: 2,000 is 20 %.",
    )
    grace = models.DurationField(
        default=timedelta(hours=24),
        help_text="How long after a term's end the closing waits for late runs.",
    )
    dunning_policy = models.CharField(
        "if payments fail for good",
        max_length=10,
        choices=DunningPolicy,
        default=DunningPolicy.BLOCK,
        help_text="After the vendor's days of trying again, and the grace.",
    )
    alert_thresholds = ArrayField(
        models.PositiveSmallIntegerField(validators=[MinValueValidator(1), MaxValueValidator(100)]),
        default=default_alert_thresholds,
        blank=True,
        size=10,
        help_text="Per cent of the allotment used at which people are told.",
    )
    trial_days = models.PositiveSmallIntegerField(
        "trial (days)", default=0, blank=True, help_text="Before the first term. 0: none."
    )
    trial_microtokens = models.BigIntegerField(
        "tokens of the trial",
        default=0,
        blank=True,
        help_text="Free; what is left expires with the trial.",
    )
    welcome_microtokens = models.BigIntegerField(
        "welcome gift",
        default=0,
        blank=True,
        help_text="Free tokens when the first term begins, once for a customer and plan.",
    )
    welcome_months = models.PositiveSmallIntegerField(
        "gift valid for (months)", default=3, blank=True
    )
    published_at = models.DateTimeField(null=True, blank=True, editable=False)
    retired_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(name="plan_version_number_once", fields=["plan", "number"]),
            models.CheckConstraint(
                name="plan_version_term",
                condition=Q(term_months__gte=1, term_months__lte=TERM_MONTHS_MAX),
            ),
            models.CheckConstraint(
                name="plan_version_allotment_in_range",
                condition=Q(
                    allotment_microtokens__gte=0, allotment_microtokens__lte=LOT_MICROTOKENS_MAX
                ),
            ),
            models.CheckConstraint(
                name="plan_version_cap_is_of_billed_overage",
                condition=Q(overage_cap_microtokens__isnull=True)
                | Q(overage_cap_microtokens__gt=0, overage_policy__in=BILLING_POLICIES),
            ),
            models.CheckConstraint(
                name="plan_version_soft_cap_is_of_billed_overage",
                condition=Q(overage_soft_cap_microtokens__isnull=True)
                | Q(overage_soft_cap_microtokens__gt=0, overage_policy="bill"),
            ),
            models.CheckConstraint(
                name="plan_version_package_has_a_size",
                condition=Q(
                    overage_model="package",
                    overage_package_microtokens__gt=0,
                    overage_package_microtokens__lte=LOT_MICROTOKENS_MAX,
                )
                | Q(
                    overage_model__in=["graduated", "volume"],
                    overage_package_microtokens__isnull=True,
                ),
            ),
            models.CheckConstraint(
                name="plan_version_rollover_is_a_share",
                condition=Q(rollover_basis_points__lte=WHOLE_BASIS_POINTS),
            ),
            models.CheckConstraint(
                name="plan_version_grace_not_negative",
                condition=Q(grace__gte=timedelta(0), grace__lte=timedelta(days=31)),
            ),
            models.CheckConstraint(
                name="plan_version_trial_in_range",
                condition=Q(trial_days__lte=TRIAL_DAYS_MAX)
                & (Q(trial_microtokens=0) | Q(trial_days__gt=0)),
            ),
            models.CheckConstraint(
                name="plan_version_gifts_in_range",
                condition=Q(
                    trial_microtokens__gte=0,
                    trial_microtokens__lte=LOT_MICROTOKENS_MAX,
                    welcome_microtokens__gte=0,
                    welcome_microtokens__lte=LOT_MICROTOKENS_MAX,
                    welcome_months__gte=1,
                    welcome_months__lte=VALIDITY_MONTHS_MAX,
                ),
            ),
            models.CheckConstraint(
                name="plan_version_retired_after_published",
                condition=Q(retired_at__isnull=True) | Q(retired_at__gte=F("published_at")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.plan} v{self.number}"


class PlanPrice(models.Model):
    """What a version costs in one currency."""

    version = models.ForeignKey(PlanVersion, models.CASCADE, related_name="prices")
    currency = fields.currency()
    platform_fee = fields.amount(help_text="Flat, for each term, invoiced in advance.")
    allotment_price = fields.amount(help_text="For each term, invoiced in advance.")
    commitment = fields.amount(
        help_text="The least that a term comes to: what is missing is invoiced at its end."
    )
    seat_price = fields.amount(
        help_text="For each seat and term, invoiced in advance. 0: it has no seats."
    )
    package_price = fields.amount(
        help_text="Of a package of overage, if it is sold by the package; else 0."
    )

    # django-money's fields hide the manager from django-stubs.
    objects: ClassVar[models.Manager["PlanPrice"]] = models.Manager()

    class Meta:
        verbose_name = "price"
        constraints: ClassVar = [
            models.UniqueConstraint(
                name="plan_price_once_a_currency", fields=["version", "currency"]
            ),
            models.CheckConstraint(
                name="plan_price_not_negative",
                condition=Q(
                    platform_fee__gte=0,
                    allotment_price__gte=0,
                    commitment__gte=0,
                    seat_price__gte=0,
                    package_price__gte=0,
                ),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.version} in {self.currency}"


class SizeOption(models.Model):
    """One size of the allotment, with what it costs in one currency.

    A version that comes in sizes has no allotment of its own; a subscription picks a size.
    """

    version = models.ForeignKey(PlanVersion, models.CASCADE, related_name="sizes")
    currency = fields.currency()
    code = models.SlugField(max_length=50)
    name = models.CharField(max_length=50, validators=[names.require_plain])
    allotment_microtokens = models.BigIntegerField("tokens")
    allotment_price = fields.amount()

    objects: ClassVar[models.Manager["SizeOption"]] = models.Manager()

    class Meta:
        verbose_name = "size"
        constraints: ClassVar = [
            models.UniqueConstraint(
                name="size_option_once_a_currency", fields=["version", "currency", "code"]
            ),
            models.CheckConstraint(
                name="size_option_of_something",
                condition=Q(
                    allotment_microtokens__gt=0, allotment_microtokens__lte=LOT_MICROTOKENS_MAX
                ),
            ),
            models.CheckConstraint(
                name="size_option_price_not_negative", condition=Q(allotment_price__gte=0)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} of {self.version}"


class OverageTier(models.Model):
    """One step of the overage price in a currency, from the term's first overage on."""

    version = models.ForeignKey(PlanVersion, models.CASCADE, related_name="tiers")
    currency = models.CharField(max_length=3)
    up_to_microtokens = models.BigIntegerField(
        "up to", null=True, blank=True, help_text="Empty: all the rest."
    )
    micros_per_token = models.BigIntegerField(
        "price per token", help_text="In millionths of the currency: 0.12 is 120,000."
    )

    class Meta:
        verbose_name = "overage price"
        constraints: ClassVar = [
            models.UniqueConstraint(
                name="overage_tier_once",
                fields=["version", "currency", "up_to_microtokens"],
                nulls_distinct=False,
            ),
            models.CheckConstraint(
                name="overage_tier_reaches_somewhere",
                condition=Q(up_to_microtokens__isnull=True)
                | Q(up_to_microtokens__gt=0, up_to_microtokens__lte=LOT_MICROTOKENS_MAX),
            ),
            models.CheckConstraint(
                name="overage_tier_price_in_range",
                condition=Q(micros_per_token__gte=0, micros_per_token__lte=LOT_PRICE_MICROS_MAX),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.micros_per_token} micros a token"


class TopUpPack(models.Model):
    """Tokens sold beside a plan. Frozen once published, as a plan's version is."""

    vendor = models.ForeignKey(Vendor, models.PROTECT, related_name="top_up_packs")
    code = models.SlugField(max_length=50)
    name = models.CharField(max_length=100, validators=[names.require_plain])
    microtokens = models.BigIntegerField("tokens", help_text="1 token = 1,000,000 microtokens.")
    bonus_microtokens = models.BigIntegerField(
        "bonus", default=0, blank=True, help_text="Tokens for free, beside those that are paid."
    )
    validity_months = models.PositiveSmallIntegerField(default=12)
    season_from_on = models.DateField(
        "for sale from", null=True, blank=True, help_text="Where the customer is. Empty: at once."
    )
    season_until_on = models.DateField(
        "for sale until", null=True, blank=True, help_text="The last day. Empty: no end."
    )
    plans = models.ManyToManyField(
        Plan,
        blank=True,
        related_name="top_up_packs",
        help_text="Whose customers may buy it. Empty: all.",
    )
    published_at = models.DateTimeField(null=True, blank=True, editable=False)
    retired_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(name="top_up_pack_code_once", fields=["vendor", "code"]),
            models.CheckConstraint(
                name="top_up_pack_of_something",
                condition=Q(microtokens__gt=0, microtokens__lte=LOT_MICROTOKENS_MAX),
            ),
            models.CheckConstraint(
                name="top_up_pack_bonus_in_range",
                condition=Q(bonus_microtokens__gte=0, bonus_microtokens__lte=LOT_MICROTOKENS_MAX),
            ),
            models.CheckConstraint(
                name="top_up_pack_valid_for_a_while",
                condition=Q(validity_months__gte=1, validity_months__lte=VALIDITY_MONTHS_MAX),
            ),
            models.CheckConstraint(
                name="top_up_pack_season_has_a_day",
                condition=Q(season_from_on__isnull=True)
                | Q(season_until_on__isnull=True)
                | Q(season_until_on__gte=F("season_from_on")),
            ),
            models.CheckConstraint(
                name="top_up_pack_retired_after_published",
                condition=Q(retired_at__isnull=True) | Q(retired_at__gte=F("published_at")),
            ),
        ]

    def __str__(self) -> str:
        return self.name


class PackPrice(models.Model):
    """What one pack costs in a currency, if at least so many are bought at once."""

    pack = models.ForeignKey(TopUpPack, models.CASCADE, related_name="prices")
    currency = fields.currency()
    from_quantity = models.PositiveSmallIntegerField("from packs", default=1)
    price = fields.amount(help_text="Of one pack.")

    objects: ClassVar[models.Manager["PackPrice"]] = models.Manager()

    class Meta:
        verbose_name = "price"
        constraints: ClassVar = [
            models.UniqueConstraint(
                name="pack_price_once", fields=["pack", "currency", "from_quantity"]
            ),
            models.CheckConstraint(
                name="pack_price_quantity_in_range",
                condition=Q(from_quantity__gte=1, from_quantity__lte=QUANTITY_MAX),
            ),
            models.CheckConstraint(name="pack_price_is_a_price", condition=Q(price__gt=0)),
        ]

    def __str__(self) -> str:
        return f"{self.price} from {self.from_quantity} on"
