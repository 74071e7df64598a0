"""People sign in with their e-mail address. Whoever is let in for the first time is invited."""

from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.auth.tokens import default_token_generator
from django.core.mail import send_mail
from django.db import transaction
from django.urls import reverse
from django.utils.crypto import get_random_string
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode

PASSWORD_NOBODY_KNOWS_CHARACTERS = 64


def username(email: str) -> str:
    """One person, however they write their address."""
    return email.strip().lower()


def invite(*, email: str, staff: bool) -> User:
    """The person of this address; if new, they get a mail with a link to choose a password.

    `staff` also lets them into the vendor's admin, where their membership decides what they see.
    """
    person, is_new = User.objects.get_or_create(
        username=username(email), defaults={"email": username(email), "is_staff": staff}
    )
    if staff and not person.is_staff:
        person.is_staff = True
        person.save(update_fields=["is_staff"])
    if is_new:
        # Not "unusable": such an account could not ask for a new link either.
        person.set_password(get_random_string(PASSWORD_NOBODY_KNOWS_CHARACTERS))
        person.save(update_fields=["password"])
        transaction.on_commit(lambda: _send_invitation(person))
    return person


def _send_invitation(person: User) -> None:
    link = reverse(
        "choose_password",
        args=[
            urlsafe_base64_encode(force_bytes(person.pk)),
            default_token_generator.make_token(person),
        ],
    )
    send_mail(
        subject="Your access to Runledger",
        message=(
            "You have been given access to Runledger.\n\n"
            f"Choose a password here, and you are in:\n{settings.WEB_URL}{link}\n\n"
            f"You sign in as {person.username}.\n"
        ),
        from_email=None,
        recipient_list=[person.email],
    )
