"""In development mail goes to a folder; these pages show it. In production they do not exist."""

import email
from dataclasses import dataclass
from email import policy
from email.message import EmailMessage
from pathlib import Path
from typing import Final

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse

from billing.pages import show

MAILS_MAX: Final = 100


@dataclass(frozen=True, kw_only=True)
class Mail:
    name: str
    to: str
    subject: str
    sent: str
    body: str


@login_required
def mail(request: HttpRequest) -> HttpResponse:
    return show(request, "development/mail.html", {"mails": _mails(), "folder": _folder()})


@login_required
def one_mail(request: HttpRequest, name: str) -> HttpResponse:
    found = next((mail for mail in _mails() if mail.name == name), None)
    if found is None:
        raise Http404
    return show(request, "development/one_mail.html", {"mail": found})


def _folder() -> Path:
    folder = getattr(settings, "EMAIL_FILE_PATH", None)
    if not settings.DEVELOPMENT or not folder:
        raise Http404
    return Path(folder)


def _mails() -> list[Mail]:
    """Newest first. A file holds all mails of one connection, each ended by a line of dashes."""
    files = sorted(_folder().glob("*.log"), key=lambda path: path.stat().st_mtime, reverse=True)
    mails: list[Mail] = []
    for path in files[:MAILS_MAX]:
        parts = path.read_bytes().split(b"\n" + b"-" * 79 + b"\n")
        whole = [part for part in parts if part.strip()]
        mails += [_mail(f"{path.stem}.{number}", part) for number, part in enumerate(whole)]
    return mails[:MAILS_MAX]


def _mail(name: str, raw: bytes) -> Mail:
    message = email.message_from_bytes(raw, policy=policy.default)
    assert isinstance(message, EmailMessage)
    body = message.get_body(("plain", "html"))
    return Mail(
        name=name,
        to=str(message["To"] or ""),
        subject=str(message["Subject"] or "(no subject)"),
        sent=str(message["Date"] or ""),
        body="" if body is None else str(body.get_content()),
    )
