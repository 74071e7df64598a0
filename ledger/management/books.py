"""Which vendor a command is about."""

from django.core.management.base import CommandError

from ledger.models import Book


def book_of(code: str | None) -> Book:
    books = Book.objects.order_by("code")
    if code is not None:
        found = books.filter(code=code).first()
        if found is None:
            raise CommandError(f"there is no book {code!r}; there are: {_codes()}")
        return found
    if books.count() != 1:
        raise CommandError(f"say which book with --book: {_codes()}")
    return books.get()


def _codes() -> str:
    codes = Book.objects.order_by("code").values_list("code", flat=True)
    return ", ".join(codes) or "none yet (run `make demo`, or add a vendor in the admin)"
