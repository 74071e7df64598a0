"""Play one month of a vendor's business on real parts."""

import json
import signal
from datetime import UTC
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.utils import timezone
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from config import broker
from config.celery import app as celery
from config.demo import cast, story, table
from config.demo.checkout_page import NotPaid
from config.demo.sending import NotTaken
from config.demo.story import DoesNotAddUp, Stage
from config.embedded import supervisor
from ledger.management.examples import CommandWithExamples

RUNS_MIN = 1_000
BROKER_SECONDS_MAX = 10
INTERRUPTED = 130  # as a shell says that it was Ctrl-C: the month was not played to its end
LOG_COLUMNS = 120  # where there is no terminal to ask

EXAMPLE = """
examples:
  manage.py demo                 play last month, then stay up for looking around (Ctrl-C ends it)
  manage.py demo --once          end after the table; exits 1 if anything does not add up
  manage.py demo --once --json   the same for machines

Everything stays in the database for other commands (check_ledger, import_runs, up). Played again
in the same month, it goes on where it was or shows the same ending: nothing happens twice.
"""


class Command(CommandWithExamples):
    help = "Play one month of a vendor's business: runs in over HTTP, invoices paid through Stripe."
    examples = EXAMPLE

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
        _check(runs_count=options["runs"])
        console = Console(stderr=options["json"])
        if not console.is_terminal:
            console = Console(stderr=options["json"], width=LOG_COLUMNS)

        def say(line: str) -> None:
            console.print(f"[dim]{timezone.now():%H:%M:%S}[/dim] {line}", highlight=False)

        is_told = False
        try:
            with supervisor.running(say=say, later=("beat",)) as services:
                players, ending = _play(console, services, say, runs_count=options["runs"])
                if options["json"]:
                    self.stdout.write(json.dumps(table.figures(ending)))
                else:
                    table.show(console, players, ending)
                is_told = True
                if not options["once"]:
                    table.show_addresses(console, players, web=services.addresses.web)
                    console.print("All of it stays up until Ctrl-C.")
                    signal.pause()
        except (supervisor.CannotStart, DoesNotAddUp, NotTaken, NotPaid) as error:
            raise CommandError(str(error)) from None
        except KeyboardInterrupt:
            console.print("The demo's data stay: `make demo` goes on with them.")
            if not is_told:
                raise SystemExit(INTERRUPTED) from None


def _check(*, runs_count: int) -> None:
    """What is asked for can be played. Raises CommandError, and kombu's OperationalError."""
    if runs_count < RUNS_MIN:
        raise CommandError(f"--runs must be {RUNS_MIN:,} or more")
    if not settings.STRIPE_SIMULATED:
        raise CommandError(
            "The demo pays its invoices at the Stripe simulator: unset STRIPE_SECRET_KEY."
        )
    if not broker.is_pgmq(settings.CELERY_BROKER_URL):
        with celery.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=BROKER_SECONDS_MAX)


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
