"""What a machine's request does without: a session, signing in, and messages to be shown.

These are for people. Under /api/ whoever asks shows a key, and there may be thousands a second.
"""

from typing import Any

from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpRequest
from django.utils.deprecation import MiddlewareMixin

API = "/api/"


class ForPeople(MiddlewareMixin):
    """Before a middleware among the bases: passes the API's requests by."""

    def __call__(self, request: HttpRequest) -> Any:
        if request.path_info.startswith(API):
            return self.get_response(request)
        return super().__call__(request)


class Sessions(ForPeople, SessionMiddleware):
    """Django's, for people."""


class SigningIn(ForPeople, AuthenticationMiddleware):
    """Django's, for people."""


class Messages(ForPeople, MessageMiddleware):
    """Django's, for people."""
