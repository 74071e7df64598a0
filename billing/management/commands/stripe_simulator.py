"""manage.py stripe_simulator: Stripe's stand-in, for development only."""

import os
import signal
from argparse import ArgumentParser
from pathlib import Path
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from billing.stripe import simulator

PORT = 12111
KEY_NAMES = ("STRIPE_SECRET_KEY", "STRIPE_API_KEY")


class Command(BaseCommand):
    help = "Run the stand-in for Stripe on this machine's loopback address. Needs no database."
    requires_system_checks: list[str] = []  # noqa: RUF012 - Django's own declaration
    requires_migrations_checks = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--port", type=int, default=PORT, help="0 picks a free one (default: %(default)s)"
        )
        parser.add_argument(
            "--home",
            type=Path,
            default=Path(settings.HOME),
            help="the folder that keeps its state (default: RUNLEDGER_HOME, %(default)s)",
        )
        parser.add_argument(
            "--webhook-url",
            default=os.environ.get("STRIPE_WEBHOOK_URL"),
            help="told of every event (default: STRIPE_WEBHOOK_URL)",
        )
        parser.add_argument(
            "--webhook-secret",
            default=os.environ.get("STRIPE_WEBHOOK_SECRET"),
            help="what its deliveries are signed with (default: STRIPE_WEBHOOK_SECRET; of several,"
            " separated by commas, the first)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        _refuse_production()
        signal.signal(signal.SIGTERM, _interrupt)
        url, secret = options["webhook_url"], (options["webhook_secret"] or "").partition(",")[0]
        if url and not secret:
            raise CommandError("--webhook-url needs --webhook-secret (or STRIPE_WEBHOOK_SECRET).")
        try:
            stand_in = simulator.Simulator(
                home=options["home"],
                port=options["port"],
                webhook_url=url or None,
                webhook_secret=secret if url else None,
            )
        except simulator.StoreInUse as error:
            raise CommandError(
                f"{error}: stop that one, or give this one another --home."
            ) from error
        except OSError as error:
            raise CommandError(
                f"Cannot listen on 127.0.0.1:{options['port']} ({error.strerror}): choose another"
                " --port."
            ) from error
        self._serve(stand_in)

    def _serve(self, stand_in: simulator.Simulator) -> None:
        try:
            self.stdout.write(f"Stripe simulator: {stand_in.address}")
            self.stdout.flush()
            stand_in.serve()
        except KeyboardInterrupt:
            pass
        finally:
            stand_in.close()


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _refuse_production() -> None:
    keys = [settings.STRIPE_SECRET_KEY, *(os.environ.get(name, "") for name in KEY_NAMES)]
    if any(key.startswith(("sk_live", "rk_live")) for key in keys):
        raise CommandError(
            "The Stripe simulator does not run where a live Stripe key is set: unset it first."
        )
    if not getattr(settings, "DEVELOPMENT", True):
        raise CommandError(
            "The Stripe simulator is for development: settings.DEVELOPMENT is False here."
        )
