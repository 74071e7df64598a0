"""Limits: caps on what an account's runs, actors, workflows … may use in a period.

A limit is never edited: it is ended, and another takes its place. What it has used, and what holds
reserve on it, is counted in a LimitUse for each value of its scope and each period.
"""

from django.db import models


class Limit(models.Model):
    id = models.BigIntegerField(primary_key=True)
    shard = models.SmallIntegerField()
    account_id = models.BigIntegerField()
    scope = models.CharField(max_length=20)
    scope_value = models.CharField(max_length=100)  # empty: each by itself
    period = models.CharField(max_length=10)
    unit = models.CharField(max_length=10)
    cap = models.BigIntegerField()  # microtokens, or micros of the account's currency
    is_hard = models.BooleanField()
    effective_at = models.DateTimeField()
    until_at = models.DateTimeField(null=True)
    idempotency_key = models.CharField(max_length=200)
    set_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        managed = False

    def __str__(self) -> str:
        return f"{self.scope} {self.scope_value} per {self.period}: {self.cap}"


class LimitUse(models.Model):
    """A cache: what runs used, and holds reserve, of one limit, value and period."""

    shard = models.SmallIntegerField()
    limit_id = models.BigIntegerField()
    scope_value = models.CharField(max_length=100)
    period_start = models.DateTimeField()
    used = models.BigIntegerField()
    held = models.BigIntegerField()
    pk = models.CompositePrimaryKey("shard", "limit_id", "scope_value", "period_start")

    class Meta:
        managed = False

    def __str__(self) -> str:
        return f"{self.scope_value}: {self.used}"


class LimitExcess(models.Model):
    """A run that was debited beyond a cap: work that has happened is never refused."""

    shard = models.SmallIntegerField()
    limit_id = models.BigIntegerField()
    account_id = models.BigIntegerField()
    run_key = models.UUIDField()
    part = models.BigIntegerField()
    scope_value = models.CharField(max_length=100)
    period_start = models.DateTimeField()
    used_before = models.BigIntegerField()
    used_after = models.BigIntegerField()
    recorded_at = models.DateTimeField()
    pk = models.CompositePrimaryKey("shard", "limit_id", "run_key", "part")

    class Meta:
        managed = False

    def __str__(self) -> str:
        return f"{self.run_key} beyond a limit"


class LimitReview(models.Model):
    """A soft cap was reached, and somebody is asked. The answer stands until `until_at`."""

    id = models.BigIntegerField(primary_key=True)
    shard = models.SmallIntegerField()
    account_id = models.BigIntegerField()
    limit_id = models.BigIntegerField()
    scope_value = models.CharField(max_length=200)  # of a limit per run, the run
    period_start = models.DateTimeField()
    opened_at = models.DateTimeField()
    run_key = models.UUIDField()  # of the hold that reached it
    used = models.BigIntegerField()
    held = models.BigIntegerField()
    asked = models.BigIntegerField()
    answered_at = models.DateTimeField(null=True)
    is_allowed = models.BooleanField(null=True)
    reason = models.CharField(max_length=500)
    until_at = models.DateTimeField(null=True)

    class Meta:
        managed = False

    def __str__(self) -> str:
        return f"review {self.id}"
