"""Close periods by hand."""

import json
import subprocess
import sys
import time
from datetime import datetime
from typing import Any, Final

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from billing import closing
from ledger.management.examples import CommandWithExamples

EXAMPLE = """
examples:
  manage.py close_periods                  all that are due
  manage.py close_periods --processes 4
  manage.py close_periods --dry-run        how many there are, and since when the oldest waits

Beat has this done by itself, a few hundred at a time: by hand it is for after an outage, or a month
whose end has very many. It may be killed at any moment, and may run beside the workers: each period
is closed once, in one transaction. One that cannot be closed is left, and the log says why.
"""
PROCESSES_MAX: Final = 64
LOOKED_AT_EVERY_SECONDS: Final = 0.5


class Command(CommandWithExamples):
    help = "Close the periods whose grace is over, and write their invoices (docs/billing.md)."
    examples = EXAMPLE

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--processes", type=int, default=1, help="at once (default 1)")
        parser.add_argument("--dry-run", action="store_true", help="count, and close nothing")
        parser.add_argument("--json", action="store_true", help="print the result as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        if not 1 <= options["processes"] <= PROCESSES_MAX:
            raise CommandError(f"--processes: must be from 1 to {PROCESSES_MAX}")
        at = timezone.now()
        waiting = closing.due(at=at).count()
        told = {"due": waiting, "closed": 0, "left": waiting, "dry_run": options["dry_run"]}
        if waiting and not options["dry_run"]:
            self._close(options["processes"], waiting, at)
            told["left"] = closing.due(at=at).count()
            told["closed"] = waiting - told["left"]
        self.stdout.write(json.dumps(told) if options["json"] else _sentence(told, at))
        if told["left"] and not options["dry_run"]:
            raise CommandError(f"{told['left']:,} could not be closed: the log says why")

    def _close(self, processes: int, waiting: int, at: datetime) -> None:
        others = [
            subprocess.Popen(
                (sys.executable, "-m", "django", "close_periods", "--json"),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for _ in range(processes - 1)
        ]
        with _bars(show=self.stderr.isatty()) as bars:
            task = bars.add_task("closing periods", total=waiting)
            while closing.close_due(at=at):
                bars.update(task, completed=waiting - closing.due(at=at).count())
            while any(other.poll() is None for other in others):
                time.sleep(LOOKED_AT_EVERY_SECONDS)
                bars.update(task, completed=waiting - closing.due(at=at).count())


def _bars(*, show: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        disable=not show,
    )


def _sentence(told: dict[str, Any], at: datetime) -> str:
    if not told["due"]:
        return "No period is due: all whose grace is over are closed."
    if told["dry_run"]:
        oldest = closing.due(at=at)[0]
        return f"To be closed: {told['due']:,}, the oldest ended on {oldest.ends_at:%Y-%m-%d}."
    return f"Closed: {told['closed']:,} of {told['due']:,}."
