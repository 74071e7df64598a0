"""Who may open which book: people by membership, machines by API key."""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ledger import sql
from ledger.errors import InvalidApiKey
from ledger.models import ApiKey, Book, BookMember

KEY_PREFIX = "rl_"
KEY_PREFIX_SHOWN_CHARACTERS = 10


def book_ids(*, user: Any) -> list[int]:
    """Ids of the books that a person may open; a superuser opens all."""
    if not user.is_active or user.pk is None:
        return []
    if user.is_superuser:
        return list(Book.objects.order_by("id").values_list("id", flat=True))
    members = BookMember.objects.filter(user_id=user.pk).order_by("book_id")
    return list(members.values_list("book_id", flat=True))


def role(*, user: Any, book_id: int) -> str | None:
    """The person's role in a book; None if it is closed to them."""
    if not user.is_active or user.pk is None:
        return None
    if user.is_superuser:
        return BookMember.Role.ADMIN
    member = BookMember.objects.filter(user_id=user.pk, book_id=book_id).first()
    return None if member is None else member.role


def add_member(*, book_id: int, user: Any, role: str) -> None:
    """Let a person into a book, or change the role they have there."""
    assert role in BookMember.Role.values
    BookMember.objects.update_or_create(book_id=book_id, user=user, defaults={"role": role})


@dataclass(frozen=True, kw_only=True)
class KeyIssued:
    """A new key. `secret` is seen here and never again."""

    key_id: int
    secret: str


def issue_api_key(*, book_id: int, name: str, at: datetime) -> KeyIssued:
    """Make a key that may send runs to a book."""
    secret = KEY_PREFIX + secrets.token_urlsafe(32)
    key = ApiKey.objects.create(
        book_id=book_id,
        name=name,
        prefix=secret[:KEY_PREFIX_SHOWN_CHARACTERS],
        digest=_digest(secret),
        created_at=at,
    )
    return KeyIssued(key_id=key.pk, secret=secret)


def revoke_api_key(*, key_id: int, at: datetime) -> None:
    """End a key at once. Ending it again changes nothing."""
    ApiKey.objects.filter(pk=key_id, revoked_at__isnull=True).update(revoked_at=at)


def book_of_api_key(*, secret: str) -> int:
    """The book that a key opens. Raises InvalidApiKey."""
    opened = books_of_api_keys(secrets=[secret])
    if secret not in opened:
        raise InvalidApiKey
    return opened[secret].id


@dataclass(frozen=True, kw_only=True)
class OpenedBook:
    """A book that a key opens; `revision` counts the changes of its prices and names."""

    id: int
    revision: int


def books_of_api_keys(*, secrets: Sequence[str]) -> dict[str, OpenedBook]:
    """The books that keys open; a key that is unknown or revoked opens none.

    A transaction that begins with it finds its rows by keys.
    """
    digests = {secret: _digest(secret) for secret in secrets}
    opened = {
        bytes(digest): OpenedBook(id=book_id, revision=revision)
        for digest, book_id, revision, *_ in sql.binary(
            "books_of_api_keys", digests=sql.byteas(digests.values())
        )
    }
    return {secret: opened[digest] for secret, digest in digests.items() if digest in opened}


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
