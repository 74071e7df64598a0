"""Check the ledger."""

import json
import sys
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import connection
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from ledger.invariants import BROKEN_ROWS_MAX, NAMES, STEPS, violations
from ledger.management.examples import CommandWithExamples

EXAMPLE = f"""
examples:
  manage.py check_ledger           a sentence; what is broken, row by row
  manage.py check_ledger --json    {{"sound": true, "checked": {len(NAMES)}, "broken": {{}}}}

Reads only, and may run while runs are debited. Exits with 0 if everything holds and with 1 if
not. Of each rule that is broken the first {BROKEN_ROWS_MAX} rows are named.
NO_COLOR=1 switches colours off; a progress bar is shown only to a terminal.
"""


class Command(CommandWithExamples):
    help = "Check that everything which must always hold of the ledger does (docs/ledger)."
    examples = EXAMPLE

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print the result as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        if "ledger_lot_now" not in connection.introspection.table_names(include_views=True):
            raise CommandError("there is no ledger in this database yet: run manage.py migrate")
        broken = _checked_before_their_eyes()
        if options["json"]:
            self.stdout.write(
                json.dumps(
                    {"sound": not broken, "checked": len(NAMES), "broken": broken}, default=str
                )
            )
            if broken:
                sys.exit(1)
            return
        for name, rows in broken.items():
            self.stderr.write(f"BROKEN  {name}")
            for row in rows:
                self.stderr.write(f"        {', '.join(str(value) for value in row)}")
        if broken:
            raise CommandError(
                f"the ledger is not sound: {len(broken)} of {len(NAMES)} rules broken"
            )
        self.stdout.write(f"The ledger is sound: {len(NAMES)} rules hold.")


def _checked_before_their_eyes() -> dict[str, list[tuple[object, ...]]]:
    console = Console(stderr=True)
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with progress:
        task = progress.add_task("", total=STEPS)
        return violations(
            progress=lambda name, steps: progress.update(task, description=name, advance=steps),
            two_at_once=not connection.in_atomic_block,
        )
