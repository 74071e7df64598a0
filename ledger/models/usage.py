"""What runs used, added up: caches of what blocks say (ledger.totals), for reading.

A block's totals become part of these rows when it is folded (ledger.folding). Each rung is the
exact sum of the one below it:

    month of account        ◀── month
    day of account          ◀── day of who the runs are for, and engine
                                hour of who the runs are for, and engine
                                quarter of an hour, in blocks
"""

from django.db import models


class Usage(models.Model):
    """What the runs of one hour, day or month used. Begins in the account's own time zone."""

    class Rung(models.IntegerChoices):
        HOUR = 1
        DAY = 2
        MONTH = 3
        # Of all runs of the account: their attribution_key and engine_id are 0.
        ACCOUNT_DAY = 4
        ACCOUNT_MONTH = 5

    shard = models.SmallIntegerField()
    account_id = models.BigIntegerField()
    rung = models.SmallIntegerField(choices=Rung)
    begins_at = models.DateTimeField()
    attribution_key = models.UUIDField()
    engine_id = models.IntegerField()  # 0: counts of runs that took several
    runs_count = models.BigIntegerField()
    accepted_first_count = models.BigIntegerField()
    failed_count = models.BigIntegerField()
    retakes_count = models.BigIntegerField()
    microtokens = models.BigIntegerField()
    micros = models.BigIntegerField()
    rework_microtokens = models.BigIntegerField()
    rework_micros = models.BigIntegerField()
    pk = models.CompositePrimaryKey(
        "shard", "account_id", "rung", "begins_at", "attribution_key", "engine_id"
    )

    class Meta:
        managed = False  # its keys start with the shard: the migration writes them out

    def __str__(self) -> str:
        return f"{self.get_rung_display()} from {self.begins_at}"


class UsageFold(models.Model):
    """Up to which block of a shard usage is folded."""

    shard = models.SmallIntegerField(primary_key=True)
    folded_number = models.BigIntegerField()

    class Meta:
        managed = False

    def __str__(self) -> str:
        return f"shard {self.shard} up to block {self.folded_number}"
