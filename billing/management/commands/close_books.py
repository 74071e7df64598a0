"""Close the books of a vendor's days."""

import json
from datetime import date
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import transaction
from django.utils import timezone
from rich.console import Console
from rich.progress import Progress

from billing.books import days
from billing.books.days import ClosedDay
from billing.errors import DayNotOver
from billing.management.dates import date_of
from billing.management.vendors import vendor_of
from billing.models import Vendor
from ledger.management.examples import CommandWithExamples

EXAMPLE = """
examples:
  manage.py close_books                       every day that is over (UTC)
  manage.py close_books --until 2026-10-31    up to and with this day
  manage.py close_books --dry-run             what there is to book; nothing is kept

Beat closes each day a minute after its end: by hand it is needed only if that was down. A closed
day stands. Closing it again changes nothing; killed half-way, the next call goes on where it was.
What is learnt later is booked on the first open day, and says when it happened. docs/finance.md
tells what is booked.
"""


class Command(CommandWithExamples):
    help = "Book what happened up to the end of the days that are over: a balanced journal a day."
    examples = EXAMPLE

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--until", metavar="DATE", help="the last day; else yesterday (UTC)")
        parser.add_argument("--vendor", help="the vendor's code; not needed if there is only one")
        parser.add_argument("--dry-run", action="store_true", help="count, and keep nothing")
        parser.add_argument("--json", action="store_true", help="print the result as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        at = timezone.now()
        vendor = vendor_of(options["vendor"])
        until = date_of("until", options["until"]) or days.last_over(at=at)
        with Progress(console=Console(stderr=True), disable=not self.stderr.isatty()) as bars:
            count = len(days.open_days(vendor_id=vendor.pk, until=until))
            task = bars.add_task("closing days", total=count)
            closed = self._close(
                vendor, until, dry_run=options["dry_run"], progress=lambda _: bars.advance(task)
            )
        told = {
            "days": len(closed),
            "from": str(closed[0].day) if closed else None,
            "to": str(closed[-1].day) if closed else None,
            "lines": sum(one.lines_count for one in closed),
            "late_lines": sum(one.late_count for one in closed),
            "dry_run": options["dry_run"],
        }
        self.stdout.write(json.dumps(told) if options["json"] else _sentence(told))

    def _close(
        self, vendor: Vendor, until: date, *, dry_run: bool, progress: days.Progress
    ) -> list[ClosedDay]:
        at = timezone.now()
        try:
            if not dry_run:
                return days.close(vendor_id=vendor.pk, until=until, at=at, progress=progress)
            with transaction.atomic():
                closed = days.close(vendor_id=vendor.pk, until=until, at=at, progress=progress)
                transaction.set_rollback(True)
                return closed
        except DayNotOver as error:
            raise CommandError(f"--until: {error}") from None


def _sentence(told: dict[str, Any]) -> str:
    if not told["days"]:
        return "Nothing to close: the books of every day up to then are closed."
    span = told["from"] if told["days"] == 1 else f"{told['from']} to {told['to']}"
    days_text = "1 day" if told["days"] == 1 else f"{told['days']:,} days"
    late = f", {told['late_lines']:,} of earlier days" if told["late_lines"] else ""
    done = "To be closed" if told["dry_run"] else "Closed"
    return f"{done}: {days_text} ({span}), {told['lines']:,} lines{late}."
