"""How far a period's overage has been billed."""

from typing import ClassVar

from django.db import models
from django.db.models import F, Q


class OverageStep(models.Model):
    """One step of billing a period's overage: from where to where, and what that came to.

    The closing takes the first, if there is any overage; the others are of what came in, or was
    given back, after it. Where
    overage came to less than was billed before, `micros` is below 0, and what of it the commitment
    does not ask for all the same is the customer's: a credit (billing.models.credits).
    """

    period = models.ForeignKey("billing.Period", models.PROTECT, related_name="overage_steps")
    number = models.PositiveIntegerField()
    from_microtokens = models.BigIntegerField()
    to_microtokens = models.BigIntegerField()
    micros = models.BigIntegerField()
    kept_micros = models.BigIntegerField(
        default=0, help_text="Of what it came to less: what the commitment asks for all the same."
    )
    billed_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(name="overage_step_once", fields=["period", "number"]),
            models.CheckConstraint(
                name="overage_step_moves",
                condition=Q(number__gte=1, from_microtokens__gte=0, to_microtokens__gte=0)
                & ~Q(from_microtokens=F("to_microtokens")),
            ),
            models.CheckConstraint(
                name="overage_step_keeps_of_what_it_came_to_less",
                condition=Q(kept_micros=0) | Q(kept_micros__gt=0, micros__lte=-F("kept_micros")),
            ),
        ]

    def __str__(self) -> str:
        return f"step {self.number} of the overage of {self.period}"
