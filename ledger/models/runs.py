"""Runs on their way in, and as they stand for ever.

A POST leaves, in one transaction, a Batch, and for each shard it touches a Submission (the runs'
details, kept for ever) and an Intake (the same runs packed for the debit, deleted by it). That
commit is the acknowledgement. The debit turns an intake's runs into Run rows, one block a
transaction.
"""

from django.db import models


class Batch(models.Model):
    """One POST: 1 to 10,000 runs, accepted together."""

    id = models.UUIDField(primary_key=True)
    book_id = models.BigIntegerField()
    received_at = models.DateTimeField()
    runs_count = models.IntegerField()
    shards = models.BinaryField()  # one byte for each shard it went to

    class Meta:
        managed = False

    def __str__(self) -> str:
        return str(self.id)


class Submission(models.Model):
    """The details of a batch's runs in one shard: ledger.packing says in which form."""

    id = models.BigIntegerField()
    shard = models.SmallIntegerField()
    batch_id = models.UUIDField()
    received_at = models.DateTimeField()
    runs_count = models.IntegerField()
    details = models.BinaryField()
    pk = models.CompositePrimaryKey("shard", "id")

    class Meta:
        managed = False

    def __str__(self) -> str:
        return f"submission {self.id}"


class Intake(models.Model):
    """Runs accepted and not yet debited: ledger.packing.RUN rows."""

    id = models.BigIntegerField()
    shard = models.SmallIntegerField()
    runs_count = models.IntegerField()
    runs = models.BinaryField()
    pk = models.CompositePrimaryKey("shard", "id")

    class Meta:
        managed = False

    def __str__(self) -> str:
        return f"intake {self.id}"


class Attribution(models.Model):
    """Who a run is for. Its key is a digest of what it says, so nobody has to look it up."""

    account_id = models.BigIntegerField()
    shard = models.SmallIntegerField()
    key = models.UUIDField()
    workflow = models.CharField(max_length=100)
    project = models.CharField(max_length=100)
    job = models.CharField(max_length=100)
    cost_centre = models.CharField(max_length=100)
    department = models.CharField(max_length=100)
    actor = models.CharField(max_length=100)
    pk = models.CompositePrimaryKey("shard", "account_id", "key")

    class Meta:
        managed = False

    def __str__(self) -> str:
        return f"{self.workflow} for {self.cost_centre}"


class Block(models.Model):
    """The receipts of one transaction, sealed: ledger.chain says what its hash covers.

    Numbered without gaps in its shard. `leaves` are the hashes of its leaves (ledger.leaves,
    ledger.amends) end to end; `totals` what it adds to usage totals (ledger.totals). Its runs came
    with submissions from the first to the last that it names, which may have others' runs too.
    """

    number = models.BigIntegerField()
    shard = models.SmallIntegerField()
    recorded_at = models.DateTimeField()
    runs_count = models.IntegerField()
    corrections_count = models.IntegerField()
    first_submission_id = models.BigIntegerField(null=True)
    last_submission_id = models.BigIntegerField(null=True)
    microtokens = models.BigIntegerField()
    micros = models.BigIntegerField()
    leaves = models.BinaryField()
    totals = models.BinaryField()
    root = models.BinaryField()
    previous_hash = models.BinaryField()
    hash = models.BinaryField()
    pk = models.CompositePrimaryKey("shard", "number")

    class Meta:
        managed = False

    def __str__(self) -> str:
        return f"block {self.number} of shard {self.shard}"


class Run(models.Model):
    """A debited run, with its first (mostly only) slice of a lot.

    `slices_count` is 0 for a run that cost nothing, 1 for a run that one lot served, and more if
    the slices are entries of their own. A run that came in parts has a row for itself (part 0,
    which costs nothing) and one for each part. `flags` are those of ledger.packing.
    """

    account_id = models.BigIntegerField()
    shard = models.SmallIntegerField()
    run_key = models.UUIDField()
    part = models.BigIntegerField()  # 0: the run itself
    occurred_at = models.DateTimeField()
    sequence = models.BigIntegerField()  # its receipt's number: gapless in the account; 0: a part
    microtokens = models.BigIntegerField()
    micros = models.BigIntegerField()  # what those tokens cost, in the account's currency
    lot_id = models.BigIntegerField()
    out_before_microtokens = models.BigIntegerField()
    slices_count = models.SmallIntegerField()
    attribution_key = models.UUIDField()
    body_digest = models.BigIntegerField()
    block_number = models.BigIntegerField()
    submission_id = models.BigIntegerField()
    submission_position = models.IntegerField()
    block_position = models.IntegerField()  # of its leaf, and in it: see ledger.leaves
    engine_id = models.IntegerField()  # 0: several
    flags = models.SmallIntegerField()
    pk = models.CompositePrimaryKey("shard", "account_id", "run_key", "part")

    class Meta:
        managed = False

    def __str__(self) -> str:
        return f"run {self.run_key}"


class Conflict(models.Model):
    """A run that came under the id of another: not debited, and told in its batch's result."""

    submission_id = models.BigIntegerField()
    shard = models.SmallIntegerField()
    submission_position = models.IntegerField()
    account_id = models.BigIntegerField()
    run_key = models.UUIDField()
    recorded_at = models.DateTimeField()
    pk = models.CompositePrimaryKey("shard", "submission_id", "submission_position")

    class Meta:
        managed = False

    def __str__(self) -> str:
        return f"conflict on {self.run_key}"


class ParkedRun(models.Model):
    """A run that no rate prices yet: kept whole, debited when a rate for its time is published."""

    shard = models.SmallIntegerField()
    batch_id = models.UUIDField()
    position = models.IntegerField()  # in its batch
    account_id = models.BigIntegerField()
    run_key = models.UUIDField()
    occurred_at = models.DateTimeField()
    parked_at = models.DateTimeField()
    reason = models.CharField(max_length=300)
    body = models.BinaryField()
    body_digest = models.BigIntegerField()
    tried_revision = models.BigIntegerField(default=-1)  # of the book's prices, that had no rate
    priced_at = models.DateTimeField(null=True)
    pk = models.CompositePrimaryKey("shard", "batch_id", "position")

    class Meta:
        managed = False

    def __str__(self) -> str:
        return f"parked run {self.run_key}"
