"""What became of runs after their debit, and runs that come in parts.

A run never changes. What is corrected is a Correction, which is the receipt's next version: the
first is the run's own, so corrections begin with 2.
"""

from django.db import models


class Correction(models.Model):
    """A new version of a run's receipt: why, what it moved, and the block that seals it."""

    class Kind(models.TextChoices):
        VOID = "void", "tokens given back"
        OUTCOME = "outcome", "failed after all"
        RETAKEN = "retaken", "done again by another run"
        PART = "part", "a part came after the end"
        RERATE = "rerate", "priced anew"

    account_id = models.BigIntegerField()
    shard = models.SmallIntegerField()
    run_key = models.UUIDField()
    version = models.IntegerField()
    kind = models.CharField(max_length=10, choices=Kind)
    operation_key = models.CharField(max_length=200)  # done once under it, for each kind
    digest = models.UUIDField()  # of the request: the same key with another request is refused
    recorded_at = models.DateTimeField()
    microtokens = models.BigIntegerField()  # what the run costs more, or (below 0) less
    micros = models.BigIntegerField()
    details = models.BinaryField()  # JSON: ledger.amends.Amends
    block_number = models.BigIntegerField()
    block_position = models.IntegerField()
    pk = models.CompositePrimaryKey("shard", "account_id", "run_key", "version")

    class Meta:
        managed = False

    def __str__(self) -> str:
        return f"version {self.version} of run {self.run_key}"


class PartedRun(models.Model):
    """A run that comes in parts: when it began, and when its end was known."""

    account_id = models.BigIntegerField()
    shard = models.SmallIntegerField()
    run_key = models.UUIDField()
    first_at = models.DateTimeField()
    last_part_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)  # its receipt is issued
    waived_at = models.DateTimeField(null=True)  # failed by the vendor's fault: its parts are free
    pk = models.CompositePrimaryKey("shard", "account_id", "run_key")

    class Meta:
        managed = False

    def __str__(self) -> str:
        return f"run {self.run_key} in parts"


class Retake(models.Model):
    """A run that does another again; the other may not have come yet, or never come."""

    account_id = models.BigIntegerField()
    shard = models.SmallIntegerField()
    run_key = models.UUIDField()
    run_id = models.CharField(max_length=200)
    retaken_key = models.UUIDField()
    recorded_at = models.DateTimeField()
    marked_at = models.DateTimeField(null=True)  # the other's receipt says so
    pk = models.CompositePrimaryKey("shard", "account_id", "run_key")

    class Meta:
        managed = False

    def __str__(self) -> str:
        return f"run {self.run_key} retakes {self.retaken_key}"
