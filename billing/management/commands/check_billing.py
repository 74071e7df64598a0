"""Check billing, against itself and against the ledger."""

import json
import sys
from typing import Any

from django.core.management.base import CommandError, CommandParser

from billing.invariants import BROKEN_ROWS_MAX, NAMES, violations
from ledger.management.examples import CommandWithExamples

EXAMPLE = f"""
examples:
  manage.py check_billing           a sentence; what is broken, row by row
  manage.py check_billing --json    {{"sound": true, "checked": {len(NAMES)}, "broken": {{}}}}

Periods, invoices, payments, top-ups and the journal agree with each other and with the ledger's
entries; the ledger itself is checked by manage.py check_ledger. Reads only. Exits with 0 if
everything holds and with 1 if not. Of each rule that is broken the first {BROKEN_ROWS_MAX} rows are
named.
"""


class Command(CommandWithExamples):
    help = "Check that everything which must always hold of billing does."
    examples = EXAMPLE

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print the result as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        broken = violations()
        checked = len(NAMES)
        if options["json"]:
            told = {"sound": not broken, "checked": checked, "broken": broken}
            self.stdout.write(json.dumps(told, default=str))
            if broken:
                sys.exit(1)
            return
        for name, rows in broken.items():
            self.stderr.write(f"BROKEN  {name}")
            for row in rows:
                self.stderr.write(f"        {', '.join(str(value) for value in row)}")
        if broken:
            raise CommandError(f"billing is not sound: {len(broken)} of {checked} rules broken")
        self.stdout.write(f"Billing is sound: {checked} rules hold.")
