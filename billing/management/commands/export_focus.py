"""Write what customers bought and used as FOCUS has it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone
from rich.console import Console
from rich.progress import Progress

from billing import focus
from billing.books import days
from billing.focus import Wanted
from billing.management.dates import date_of
from billing.management.files import written
from billing.management.vendors import vendor_of
from billing.models import Customer, Vendor
from ledger import catalog
from ledger.management.examples import CommandWithExamples

EXAMPLE = """
examples:
  manage.py export_focus -o focus.csv --from 2026-10-01 --to 2026-10-31
  manage.py export_focus -o acme.csv --customer acme --list-rate-card standard

Columns are those of FOCUS 1.2 (https://focus.finops.org). Purchases of tokens have a BilledCost and
no EffectiveCost; use has it the other way round. Days are each customer's own. With a list rate
card, ListCost says what the work would have cost by that card.
"""


class Command(CommandWithExamples):
    help = "Write purchases and use of tokens as FOCUS 1.2, for FinOps tools."
    examples = EXAMPLE

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("-o", "--output", type=Path, required=True, help="a new file")
        parser.add_argument("--from", metavar="DATE", help="the first day; else the month's first")
        parser.add_argument("--to", metavar="DATE", help="the last day; else yesterday")
        parser.add_argument("--customer", help="the code of one customer; else all")
        parser.add_argument("--list-rate-card", metavar="CODE", help="what work costs by list")
        parser.add_argument("--vendor", help="the vendor's code; not needed if there is only one")
        parser.add_argument("--json", action="store_true", help="print the result as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        wanted = _wanted(options)
        count = -1  # the header is no row

        def counted(lines: Iterator[str]) -> Iterator[str]:
            nonlocal count
            for line in lines:
                count += 1
                yield line

        def each() -> Iterator[Wanted]:
            for one in wanted:
                yield one
                bars.advance(task)

        with Progress(console=Console(stderr=True), disable=not self.stderr.isatty()) as bars:
            task = bars.add_task("writing", total=len(wanted))
            written(options["output"], counted(focus.rows(each())))
        told = {"file": str(options["output"]), "customers": len(wanted), "rows": count}
        sentence = f"{count:,} rows of {len(wanted):,} customers in {told['file']}."
        self.stdout.write(json.dumps(told) if options["json"] else sentence)


def _wanted(options: dict[str, Any]) -> list[Wanted]:
    vendor = vendor_of(options["vendor"])
    last = date_of("to", options["to"]) or days.last_over(at=timezone.now())
    first = date_of("from", options["from"]) or last.replace(day=1)
    if first > last:
        raise CommandError(f"--from {first} is after --to {last}")
    customers = Customer.objects.filter(vendor=vendor).select_related("vendor").order_by("code")
    if options["customer"] is not None:
        customers = customers.filter(code=options["customer"])
        if not customers:
            raise CommandError(f"{vendor} has no customer {options['customer']!r}")
    card_id = _list_rate_card(vendor, options["list_rate_card"])
    return [
        Wanted(customer=customer, first=first, last=last, list_rate_card_id=card_id)
        for customer in customers
    ]


def _list_rate_card(vendor: Vendor, code: str | None) -> int | None:
    if code is None:
        return None
    cards = {card.code: card.id for card in catalog.rate_cards(book_id=vendor.book_id)}
    if code not in cards:
        known = ", ".join(sorted(cards)) or "none yet"
        raise CommandError(f"{vendor} has no published rate card {code!r}; there are: {known}")
    return cards[code]
