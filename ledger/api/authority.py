"""Machines show an API key: `Authorization: Bearer rl_…`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from ledger import access
from ledger.errors import InvalidApiKey


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Whoever holds a key of a book."""

    book_id: int
    is_authenticated: bool = True


class KeyAuthentication(BaseAuthentication):
    """Finds the book that the request's key opens. Raises InvalidApiKey."""

    def authenticate(self, request: Request) -> tuple[Machine, None]:
        return Machine(book_id=access.book_of_api_key(secret=secret_of(request.META))), None


def secret_of(environ: Mapping[str, Any]) -> str:
    """The key that a request shows, whatever it opens. Raises InvalidApiKey if there is none."""
    scheme, _, secret = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise InvalidApiKey
    return str(secret.strip())


class HasKey(BasePermission):
    def has_permission(self, request: Request, view: APIView) -> bool:
        return isinstance(request.user, Machine)


def book_id(request: Request) -> int:
    """The book that the request's key opened."""
    assert isinstance(request.user, Machine)
    return request.user.book_id
