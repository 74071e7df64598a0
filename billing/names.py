"""Names of things and people: one line of text, as it goes into mail, invoices and pages."""

import unicodedata

from django.core.exceptions import ValidationError


def is_plain(name: str) -> bool:
    """Whether it is one line: a line break in a name would be a new header in a mail."""
    return not any(
        unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in name
    )


def require_plain(name: str) -> None:
    """For the fields of forms. Raises ValidationError."""
    if not is_plain(name):
        raise ValidationError("It must be one line, without control characters.", code="plain")
