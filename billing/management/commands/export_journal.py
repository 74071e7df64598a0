"""Write a vendor's journal to a file."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from rich.console import Console
from rich.progress import Progress

from billing.books import journal, plaintext
from billing.management.dates import date_of
from billing.management.files import written
from billing.management.vendors import vendor_of
from ledger.management.examples import CommandWithExamples

EXAMPLE = """
examples:
  manage.py export_journal --format csv -o october.csv --from 2026-10-01 --to 2026-10-31
  manage.py export_journal --format beancount -o books.beancount && bean-check books.beancount
  manage.py export_journal --format hledger -o books.journal && hledger -f books.journal check

What is booked: the days whose books are closed (manage.py close_books). A transaction is what a
rule booked of a customer on a day. The CSV has exact amounts beside the booked ones. A text from
the books' first day on ends with the balance of each account, for its reader to check.
"""


class Command(CommandWithExamples):
    help = "Write the journal of closed days as CSV, for Beancount or for hledger."
    examples = EXAMPLE

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--format", choices=sorted(plaintext.FORMATS), required=True)
        parser.add_argument("--from", metavar="DATE", help="the first day; else the books' first")
        parser.add_argument("--to", metavar="DATE", help="the last day; else the last closed one")
        parser.add_argument("--vendor", help="the vendor's code; not needed if there is only one")
        parser.add_argument("-o", "--output", type=Path, required=True, help="a new file")
        parser.add_argument("--json", action="store_true", help="print the result as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        wanted = self._wanted(options)
        count = 0

        def counted() -> Iterator[journal.Transaction]:
            nonlocal count
            for one in wanted.transactions:
                count += 1
                bars.update(task, completed=(one.day - wanted.first).days)
                yield one

        with Progress(console=Console(stderr=True), disable=not self.stderr.isatty()) as bars:
            task = bars.add_task("writing", total=(wanted.last - wanted.first).days + 1)
            text = plaintext.Text(**vars(wanted) | {"transactions": counted()})
            written(options["output"], plaintext.FORMATS[options["format"]](text))
        told = {
            "file": str(options["output"]),
            "from": str(wanted.first),
            "to": str(wanted.last),
            "transactions": count,
        }
        sentence = f"{count:,} transactions of {told['from']} to {told['to']} in {told['file']}."
        self.stdout.write(json.dumps(told) if options["json"] else sentence)

    def _wanted(self, options: dict[str, Any]) -> plaintext.Text:
        vendor = vendor_of(options["vendor"])
        closed = journal.closed_days(vendor_id=vendor.pk)
        if closed is None:
            raise CommandError("no day is closed yet: run manage.py close_books")
        first = date_of("from", options["from"]) or closed[0]
        last = min(date_of("to", options["to"]) or closed[1], closed[1])
        if first > last:
            raise CommandError(f"nothing is closed from {first} to {last}: check --from and --to")
        return plaintext.text(vendor=vendor, first=max(first, closed[0]), last=last)
