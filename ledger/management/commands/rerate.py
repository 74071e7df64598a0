"""Price runs anew."""

import json
from dataclasses import asdict
from decimal import Decimal
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone
from rich.console import Console
from rich.progress import Progress

from ledger import rerating
from ledger.errors import UnknownRateCardVersion
from ledger.management.books import book_of
from ledger.management.examples import CommandWithExamples
from ledger.models import Account, Book
from ledger.rerating import KEY_LENGTH_MAX, Rerated
from ledger.units import MICROS_PER_UNIT_OF_MONEY, tokens_text

EXAMPLE = """
example: version 3 of the card "standard" corrects what held since its effective date
  manage.py rerate standard 3 --reason "price of gpt-4o was ten times too high" --dry-run
  manage.py rerate standard 3 --reason "price of gpt-4o was ten times too high"

What became cheaper is given back, what became dearer is charged; receipts get a further version,
invoices stay as they are. Debits go on meanwhile. Interrupted, call it again: it goes on where it
stopped, and no run is priced anew twice.
"""


class Command(CommandWithExamples):
    help = "Price runs anew after a mistake in a price list was corrected by another version."
    examples = EXAMPLE

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("rate_card", help="its code")
        parser.add_argument("number", type=int, help="of the published version that corrects")
        parser.add_argument("--book", help="the vendor's code; not needed if there is only one")
        parser.add_argument("--account", help="only this account, by its code")
        parser.add_argument("--reason", default="", help="for the receipts")
        parser.add_argument("--key", help="under which each run is priced anew once")
        parser.add_argument("--dry-run", action="store_true", help="show it, change nothing")
        parser.add_argument("--json", action="store_true", help="print the result as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        book = book_of(options["book"])
        rate_card, number = options["rate_card"], options["number"]
        key = options["key"] or f"{rate_card}-{number}"
        if len(key) > KEY_LENGTH_MAX:
            raise CommandError(f"--key must have at most {KEY_LENGTH_MAX} characters")
        if len(options["reason"]) > rerating.REASON_LENGTH_MAX:
            raise CommandError(
                f"--reason must have at most {rerating.REASON_LENGTH_MAX} characters"
            )
        try:
            plan = rerating.plan(
                book_id=book.pk, rate_card=rate_card, number=number, account=options["account"]
            )
        except UnknownRateCardVersion as error:
            raise CommandError(str(error)) from None
        if not plan.codes:
            raise CommandError(f"there is no account {options['account']!r} in book {book.code!r}")
        with Progress(console=Console(stderr=True), disable=not self.stderr.isatty()) as bars:
            task = bars.add_task("pricing anew", total=rerating.runs_count(of=plan))
            rerated = rerating.rerate(
                of=plan,
                reason=options["reason"],
                idempotency_key=key,
                dry_run=options["dry_run"],
                progress=lambda runs: bars.advance(task, runs),
                at=timezone.now(),
            )
        self._tell(rerated, book, is_dry=options["dry_run"], as_json=options["json"])

    def _tell(self, rerated: Rerated, book: Book, *, is_dry: bool, as_json: bool) -> None:
        if as_json:
            accounts = {code: asdict(one) for code, one in sorted(rerated.accounts.items())}
            answer = {
                "dry_run": is_dry,
                "unpriced_count": rerated.unpriced_count,
                "accounts": accounts,
            }
            self.stdout.write(json.dumps(answer))
            return
        for line in _table(rerated, book):
            self.stdout.write(line)
        if rerated.unpriced_count:
            self.stdout.write(
                f"{rerated.unpriced_count:,} runs have no rate in it: they stay as they are"
            )
        if is_dry:
            self.stdout.write("nothing was changed")


def _table(rerated: Rerated, book: Book) -> list[str]:
    """A line for each account, in columns."""
    if not rerated.accounts:
        return ["every run has the right price already"]
    currencies = dict(
        Account.objects.filter(book_id=book.pk, code__in=list(rerated.accounts)).values_list(
            "code", "currency"
        )
    )
    rows = [("account", "runs", "given back", "charged", "money")]
    rows += [
        (
            code,
            f"{one.runs_count:,}",
            tokens_text(one.cheaper_microtokens),
            tokens_text(one.dearer_microtokens),
            f"{Decimal(one.micros) / MICROS_PER_UNIT_OF_MONEY:+f} {currencies[code]}".strip(),
        )
        for code, one in sorted(rerated.accounts.items())
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True)]
        )
        for row in rows
    ]
