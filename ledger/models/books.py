"""Books, who may open them, and the keys that send runs to them.

A book is one vendor's set of accounts, units and prices. Nothing in one book refers to another:
the book is the wall between tenants.
"""

from typing import ClassVar

from django.conf import settings
from django.db import models


class Book(models.Model):
    """One tenant's accounts, units and prices."""

    code = models.SlugField(max_length=50, unique=True)
    name = models.CharField(max_length=200)
    revision = models.BigIntegerField(
        default=0,
        editable=False,
        help_text="Counts changes of prices and names; caches compare it.",
    )

    def __str__(self) -> str:
        return self.name


class BookMember(models.Model):
    """A person of the vendor, and what they may do in its book."""

    class Role(models.TextChoices):
        ADMIN = "admin", "administrator"
        PRICING = "pricing", "pricing owner"
        FINANCE = "finance", "finance"
        ACCOUNT_MANAGER = "account_manager", "account manager"

    book = models.ForeignKey(Book, models.PROTECT, related_name="members")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="book_members")
    role = models.CharField(max_length=20, choices=Role)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(name="book_member_once", fields=["book", "user"]),
        ]

    def __str__(self) -> str:
        return f"{self.user} ({self.get_role_display()})"


class ApiKey(models.Model):
    """A key that sends runs. Only its SHA-256 is kept; the key itself is shown once."""

    book = models.ForeignKey(Book, models.PROTECT, related_name="api_keys")
    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=16, help_text="The key's first characters, to tell it by.")
    digest = models.BinaryField(max_length=32, unique=True, editable=False)
    created_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"
