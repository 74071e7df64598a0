"""`manage.py up`: every service of the installation, until Ctrl-C."""

import signal
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from config.embedded import server, supervisor


class Command(BaseCommand):
    help = (
        "Run every service: database, broker, Stripe simulator, web, worker, beat. What"
        " DATABASE_URL, CELERY_BROKER_URL and STRIPE_SECRET_KEY name is used instead."
        " Ctrl-C ends them all."
    )
    requires_system_checks: list[str] = []  # noqa: RUF012 - as Django declares it

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, help="of the web server; default: a free one")

    def handle(self, *, port: int | None, **_: Any) -> None:
        try:
            with supervisor.running(say=self._say, web_port=port) as services:
                self._say(f"Runledger is at {services.addresses.web} (Ctrl-C ends it)")
                while True:
                    signal.pause()
        except KeyboardInterrupt:
            server.leave()
        except supervisor.CannotStart as error:
            raise CommandError(str(error)) from error

    def _say(self, line: str) -> None:
        self.stdout.write(f"{timezone.now():%H:%M:%S} {line}")
        self.stdout.flush()
