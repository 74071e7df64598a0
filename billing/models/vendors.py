"""Vendors: who sells tokens. Their people are members of their book (ledger.access)."""

from django.db import models

from billing import names


class Vendor(models.Model):
    """A company that sells AI software by the run. Its accounts and prices are one book."""

    code = models.SlugField(max_length=50, unique=True)
    name = models.CharField(max_length=200, validators=[names.require_plain])
    book_id = models.BigIntegerField(unique=True, help_text="Its book in the ledger.")
    opened_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name
