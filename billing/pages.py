"""What pages for people share: who may open which, where else they may go, and safe headers."""

from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone

from billing import customers
from ledger import access

DESK_ROLES: Final = frozenset({"admin", "account_manager"})
# Everything comes from ourselves, and no page carries scripts or styles of its own.
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; style-src 'self'; font-src 'self'; img-src 'self' data:;"
    " script-src 'self'; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'"
)

Person = User | AnonymousUser


@dataclass(frozen=True, kw_only=True)
class Place:
    """A part of the product that a person may enter."""

    name: str
    url: str


def desk_books(person: Person) -> list[int]:
    """Books whose customers a person looks after."""
    return [
        book_id
        for book_id in access.book_ids(user=person)
        if access.role(user=person, book_id=book_id) in DESK_ROLES
    ]


def places(person: Person) -> list[Place]:
    """Where a person may go, the place for their daily work first."""
    found: list[Place] = []
    if not person.is_authenticated:
        return found
    if desk_books(person):
        found.append(Place(name="Desk", url=reverse("desk")))
    if person.is_staff:
        found.append(Place(name="Admin", url=reverse("admin:index")))
    if customers.of_person(user=person).exists():
        found.append(Place(name="Portal", url=reverse("portal")))
    return found


def show(
    request: HttpRequest,
    template: str,
    context: dict[str, Any] | None = None,
    *,
    time_zone: str = "UTC",
    status: int = 200,
) -> HttpResponse:
    """A page, with times as the customer's clock shows them."""
    own = places(request.user)
    shared = {
        "places": own,
        "here": next((place for place in own if request.path.startswith(place.url)), None),
        "development": settings.DEVELOPMENT,
        "time_zone": time_zone,
    }
    with timezone.override(time_zone):
        response = render(request, template, {**shared, **(context or {})}, status=status)
    response["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    response["Cache-Control"] = "private, no-store"
    return response
