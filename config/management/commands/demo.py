"""Play one month of a vendor's business on real parts."""

import json
import signal
from argparse import RawDescriptionHelpFormatter
from datetime import UTC
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from config.demo import cast, story, table
from config.demo.checkout_page import NotPaid
from config.demo.sending import NotTaken
from config.demo.story import DoesNotAddUp, Stage
from config.embedded import supervisor

RUNS_MIN = 1_000
LOG_COLUMNS = 120  # where there is no terminal to ask

EXAMPLE = """
examples:
  manage.py demo                 play last month, then stay up for looking around (Ctrl-C ends it)
  manage.py demo --once          end after the table; exits 1 if anything does not add up
  manage.py demo --once --json   the same for machines

Everything stays in the database for other commands (check_ledger, import_runs, up). Played again
in the same month, it goes on where it was or shows the same ending: nothing happens twice.
"""


class Command(BaseCommand):
    help = "Play one month of a vendor's business: runs in over HTTP, invoices paid through Stripe."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.epilog = EXAMPLE
        parser.formatter_class = RawDescriptionHelpFormatter
        return parser

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help="end after the table")
        parser.add_argument("--json", action="store_true", help="print the ending as JSON")
        parser.add_argument(
            "--runs",
            type=int,
            default=100_000,
            help="how many runs the month has (default: 100,000)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["runs"] < RUNS_MIN:
            raise CommandError(f"--runs must be {RUNS_MIN:,} or more")
        console = Console(stderr=options["json"])
        if not console.is_terminal:
            console = Console(stderr=options["json"], width=LOG_COLUMNS)

        def say(line: str) -> None:
            console.print(f"[dim]{timezone.now():%H:%M:%S}[/dim] {line}", highlight=False)

        try:
            with supervisor.running(say=say, later=("beat",)) as services:
                players, ending = _play(console, services, say, runs_count=options["runs"])
                if options["json"]:
                    self.stdout.write(json.dumps(table.figures(ending)))
                else:
                    table.show(console, players, ending)
                if not options["once"]:
                    table.show_addresses(console, players, web=services.addresses.web)
                    console.print("All of it stays up until Ctrl-C.")
                    signal.pause()
        except (supervisor.CannotStart, DoesNotAddUp, NotTaken, NotPaid) as error:
            raise CommandError(str(error)) from None
        except KeyboardInterrupt:
            console.print("The demo's data stay: `make demo` shows them again.")


def _play(
    console: Console,
    services: supervisor.Running,
    say: supervisor.Say,
    *,
    runs_count: int,
) -> tuple[cast.Cast, story.Ending]:
    columns = (
        TextColumn("{task.description:>8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        sent = bars.add_task("sent", total=runs_count)
        debited = bars.add_task("debited", total=runs_count)
        return story.play(
            month=cast.month_before(timezone.now().astimezone(UTC)),
            runs_count=runs_count,
            stage=Stage(
                web=services.addresses.web,
                say=say,
                sent=lambda count: bars.advance(sent, count),
                debited=lambda count: bars.update(debited, completed=count),
                start_beat=lambda: services.start("beat"),
            ),
        )
