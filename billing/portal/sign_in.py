"""The door: signing in, a link for a new password, and where a person goes from there."""

from typing import Any

from django.contrib.auth import views
from django.contrib.auth.decorators import login_required
from django.contrib.auth.forms import AuthenticationForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse_lazy

from billing import pages


class SignInForm(AuthenticationForm):
    error_messages = {  # noqa: RUF012 - as Django declares it
        "invalid_login": "This address and password do not go together. Passwords tell capital"
        " and small letters apart.",
        "inactive": "This account is closed.",
    }

    def __init__(self, request: HttpRequest | None = None, *given: Any, **options: Any) -> None:
        super().__init__(request, *given, **options)
        self.fields["username"].label = "E-mail"
        self.fields["username"].widget.attrs |= {"autocomplete": "username", "inputmode": "email"}


class _Safe:
    """A page of Django's, with our headers."""

    def dispatch(self, request: HttpRequest, *given: Any, **options: Any) -> Any:
        response = super().dispatch(request, *given, **options)  # type: ignore[misc]  # mixed into views
        response["Content-Security-Policy"] = pages.CONTENT_SECURITY_POLICY
        return response


class SignIn(_Safe, views.LoginView):
    template_name = "sign_in/sign_in.html"
    authentication_form = SignInForm
    redirect_authenticated_user = True


class AskForLink(_Safe, views.PasswordResetView):
    template_name = "sign_in/ask_for_link.html"
    email_template_name = "sign_in/link_mail.txt"
    subject_template_name = "sign_in/link_subject.txt"
    success_url = reverse_lazy("link_sent")


class LinkSent(_Safe, views.PasswordResetDoneView):
    template_name = "sign_in/link_sent.html"


class ChoosePassword(_Safe, views.PasswordResetConfirmView):
    template_name = "sign_in/choose_password.html"
    success_url = reverse_lazy("front")
    post_reset_login = True


@login_required
def front(request: HttpRequest) -> HttpResponse:
    """Takes a person to the place of their daily work."""
    places = pages.places(request.user)
    if places:
        return redirect(places[0].url)
    return pages.show(request, "portal/nowhere.html")
