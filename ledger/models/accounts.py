"""Accounts: what holds tokens.

An account lives in one of 256 shards, in which it is opened by a fixed hash of its code; its id,
and its lots' ids, end in the shard's byte. Whoever writes in a shard holds the shard's lock
(sql/lock_shard.sql).

The columns `in_use_*` of its standing are a cache that makes the debit fast: the one lot that
serves every run whose time lies in [in_use_from_at, in_use_until_at), for as long as it lasts.
While a lot is in use, how much of it is out stands *here*; its own row catches up when the lot is
put away (sql/put_away_lots.sql). The view `ledger_lot_now` reads the truth of both.
"""

from django.db import models


class Account(models.Model):
    id = models.BigIntegerField(primary_key=True)
    shard = models.SmallIntegerField()
    book_id = models.BigIntegerField()
    code = models.CharField(max_length=100)
    name = models.CharField(max_length=200)
    rate_card_id = models.BigIntegerField()
    default_cost_centre = models.CharField(max_length=100, blank=True)
    time_zone = models.CharField(max_length=64, default="UTC")  # in which its days and months begin
    currency = models.CharField(max_length=3, blank=True)  # of all its lots that have a price
    opened_at = models.DateTimeField()
    debt_lot_id = models.BigIntegerField()

    class Meta:
        managed = False  # its keys start with the shard: the migration writes them out

    def __str__(self) -> str:
        return self.name


class Standing(models.Model):
    """How an account stands: what a debit writes of it, in a row of its own (the shortest)."""

    account_id = models.BigIntegerField(primary_key=True)
    shard = models.SmallIntegerField()
    runs_count = models.BigIntegerField(default=0)  # the last receipt's number
    # Caches of the open holds, and of the limits in force.
    held_microtokens = models.BigIntegerField(default=0)
    open_holds_count = models.IntegerField(default=0)
    limits_count = models.IntegerField(default=0)
    in_use_lot_id = models.BigIntegerField(null=True)
    in_use_out_microtokens = models.BigIntegerField(null=True)
    in_use_granted_microtokens = models.BigIntegerField(null=True)
    in_use_price_micros = models.BigIntegerField(null=True)  # -1: by its tiers
    in_use_from_at = models.DateTimeField(null=True)
    in_use_until_at = models.DateTimeField(null=True)
    mark = models.BigIntegerField(default=0)  # who wrote it: see ledger.standings
    overdue_since = models.DateTimeField(null=True)  # no new holds: see ledger.overdue

    class Meta:
        managed = False

    def __str__(self) -> str:
        return str(self.account_id)
