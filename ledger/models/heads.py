"""Heads of the chains of blocks, as they were published."""

from django.db import models


class Head(models.Model):
    """A shard's last block at the time of publishing: ledger.heads says what that is good for."""

    shard = models.SmallIntegerField()
    number = models.BigIntegerField()  # of the block
    hash = models.BinaryField()
    published_at = models.DateTimeField()
    pk = models.CompositePrimaryKey("shard", "number")

    class Meta:
        managed = False

    def __str__(self) -> str:
        return f"block {self.number} of shard {self.shard}"
