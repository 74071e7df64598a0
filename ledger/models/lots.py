"""Lots, the entries on them, and the operations that wrote those entries.

A lot's tokens leave it in order, first to last, whatever for. `out_microtokens` counts those that
have left; it is a cache of the entries. An entry says which stretch of its lot moved, and its
kind names both sides of the movement: so the ledger is double entry by construction.

The debit of a run that one lot served whole is an entry that stands in the run's own row
(ledger.models.runs.Run); the view `ledger_movement` reads all movements as one table.
"""

from django.db import models


class Lot(models.Model):
    """Tokens granted together: one price paid, one expiry, one priority."""

    class Kind(models.TextChoices):
        PREPAID = "prepaid"
        OVERAGE = "overage"  # used beyond all lots, billed later by its tiers
        DEBT = "debt"  # used beyond all lots and not billed: the next grant repays it

    id = models.BigIntegerField(primary_key=True)
    shard = models.SmallIntegerField()
    account_id = models.BigIntegerField()
    kind = models.CharField(max_length=10, choices=Kind)
    source = models.CharField(max_length=20)  # allotment, top_up, bonus, rollover, overage, debt
    priority = models.SmallIntegerField()  # lower is drawn down first
    issued_at = models.DateTimeField()
    effective_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True)  # null: never
    closes_at = models.DateTimeField(null=True)  # what is left then rolls over or expires
    granted_microtokens = models.BigIntegerField()
    price_micros = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    tiers = models.JSONField(null=True)  # of an overage lot: ledger.value.Tiers, written
    rollover_microtokens_max = models.BigIntegerField(default=0)
    rollover_expires_at = models.DateTimeField(null=True)
    rolled_from_lot_id = models.BigIntegerField(null=True)

    out_microtokens = models.BigIntegerField(default=0)
    open = models.BooleanField(default=True)  # something is left

    class Meta:
        managed = False  # its keys start with the shard: the migration writes them out

    def __str__(self) -> str:
        return f"lot {self.id}"


class Operation(models.Model):
    """One thing done to an account other than a debit, done once under its key."""

    account_id = models.BigIntegerField()
    shard = models.SmallIntegerField()
    key = models.CharField(max_length=200)
    kind = models.CharField(max_length=20)
    digest = models.UUIDField()  # of the request: the same key with another request is refused
    lot_id = models.BigIntegerField()
    occurred_at = models.DateTimeField()
    pk = models.CompositePrimaryKey("shard", "account_id", "key")

    class Meta:
        managed = False

    def __str__(self) -> str:
        return f"{self.kind} {self.key}"


class Entry(models.Model):
    """One immutable movement of one stretch of one lot."""

    class Kind(models.TextChoices):
        GRANT = "grant", "issued → available"
        DEBIT = "debit", "available → consumed"
        EXPIRE = "expire", "available → breakage"
        ROLL_OVER = "roll_over", "available → the lot of the next term"
        REPAY = "repay", "available → debt repaid"
        REPAID = "repaid", "debt repaid → debt lot"
        RETURN = "return", "consumed → available: a run was corrected"
        CHARGE = "charge", "available → consumed: a run was corrected"
        FREEZE = "freeze", "available → frozen: what was paid is in doubt"
        THAW = "thaw", "frozen → available"
        REVOKE = "revoke", "available → revoked: what was paid went back"
        RESTORE = "restore", "revoked → available"
        OWE = "owe", "revoked, but used before → debt lot"
        FORGIVE = "forgive", "debt lot → owed no more"

    id = models.BigIntegerField(primary_key=True)
    shard = models.SmallIntegerField()
    account_id = models.BigIntegerField()
    lot_id = models.BigIntegerField()
    kind = models.CharField(max_length=10, choices=Kind)
    out_before_microtokens = models.BigIntegerField()
    microtokens = models.BigIntegerField()
    run_key = models.UUIDField(null=True)
    part = models.BigIntegerField(null=True)
    operation_key = models.CharField(max_length=200, null=True)  # noqa: DJ001  a debit has none
    occurred_at = models.DateTimeField()

    class Meta:
        managed = False

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.microtokens}"
