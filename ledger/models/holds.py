"""Holds: tokens reserved for a run in progress.

A hold is one row under its run's key. What became of it is a list of dates: held, claimed (its run
is accepted, and will be debited), captured (debited), released, lapsed (its deadline had passed
when somebody looked), refused. Most may stand beside each other: a run that comes after its hold
was released is debited all the same, and the hold then says both.

Three columns are caches that decisions need: what the hold counts for now (in tokens and in money),
and `due_at`, when time itself next changes that. A hold without a `due_at` is done with: no run is
awaited under it.
"""

from django.contrib.postgres.fields import ArrayField
from django.db import models


class Hold(models.Model):
    shard = models.SmallIntegerField()
    account_id = models.BigIntegerField()
    run_key = models.UUIDField()
    run_id = models.CharField(max_length=200)
    body_digest = models.BigIntegerField()
    microtokens = models.BigIntegerField()
    micros = models.BigIntegerField()  # what they would cost: only asked for by limits in money
    workflow = models.CharField(max_length=100)
    project = models.CharField(max_length=100)
    job = models.CharField(max_length=100)
    cost_centre = models.CharField(max_length=100)
    department = models.CharField(max_length=100)
    actor = models.CharField(max_length=100)
    life_seconds = models.IntegerField()
    asked_at = models.DateTimeField()
    held_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True)
    claimed_at = models.DateTimeField(null=True)
    captured_at = models.DateTimeField(null=True)
    released_at = models.DateTimeField(null=True)
    lapsed_at = models.DateTimeField(null=True)
    refused_at = models.DateTimeField(null=True)
    refusal = models.CharField(max_length=300)
    review_id = models.BigIntegerField(null=True)  # the last one it waited for
    limit_ids = ArrayField(models.BigIntegerField())  # on which it counts
    counted_microtokens = models.BigIntegerField()
    counted_micros = models.BigIntegerField()
    due_at = models.DateTimeField(null=True)
    pk = models.CompositePrimaryKey("shard", "account_id", "run_key")

    class Meta:
        managed = False

    def __str__(self) -> str:
        return f"hold for {self.run_id}"
