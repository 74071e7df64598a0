"""Days as they are typed at a command."""

from datetime import date

from django.core.management.base import CommandError


def date_of(option: str, text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise CommandError(f"--{option} {text}: not a day such as 2026-10-31") from None
