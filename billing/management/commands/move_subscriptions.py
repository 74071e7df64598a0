"""Move all subscriptions of a plan's version to another."""

import json
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone
from rich.console import Console
from rich.progress import Progress

from billing import money, moves
from billing.models import PlanVersion
from billing.moves import Move
from ledger.management.examples import CommandWithExamples

EXAMPLE = """
examples:
  manage.py move_subscriptions acme/growth/1 acme/growth/2 --dry-run
  manage.py move_subscriptions acme/growth/1 acme/growth/2            with each one's next period
  manage.py move_subscriptions acme/growth/1 acme/growth/2 --now --json

A version is written VENDOR/PLAN/NUMBER. Each subscription is moved once, in a transaction of its
own: a command that was interrupted is simply begun again. What cannot be moved stays where it is,
and is listed with the reason.
"""


class Command(CommandWithExamples):
    help = "Move all subscriptions of a plan's version to another one."
    examples = EXAMPLE

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("from_version", metavar="FROM", help="VENDOR/PLAN/NUMBER")
        parser.add_argument("to_version", metavar="TO", help="VENDOR/PLAN/NUMBER")
        parser.add_argument("--now", action="store_true", help="now, with proration")
        parser.add_argument("--dry-run", action="store_true", help="show what it would do")
        parser.add_argument("--json", action="store_true", help="print the result as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        from_, to = (_version(options[name]) for name in ("from_version", "to_version"))
        if from_.plan.vendor_id != to.plan.vendor_id:
            raise CommandError("FROM and TO are versions of different vendors.")
        act = moves.preview if options["dry_run"] else moves.move
        asked: dict[str, Any] = {"from_version": from_, "to_version": to, "now": options["now"]}
        found: list[Move] = []
        with Progress(console=Console(stderr=True), disable=not self.stderr.isatty()) as bars:
            task = bars.add_task("subscriptions", total=moves.to_move(from_version=from_))
            for one in act(**asked, at=timezone.now()):
                found.append(one)
                bars.advance(task)
        if options["json"]:
            told = {
                "from": str(from_),
                "to": str(to),
                "when": "now" if options["now"] else "period_end",
                "dry_run": options["dry_run"],
                "moves": [_as_json(one) for one in found],
            }
            self.stdout.write(json.dumps(told))
            return
        self._tell(found, dry_run=options["dry_run"])

    def _tell(self, found: list[Move], *, dry_run: bool) -> None:
        for one in found:
            customer = one.subscription.customer
            if one.skipped:
                self.stdout.write(f"{customer.code}: left alone: {one.skipped}")
            elif one.before is not None and one.after is not None:
                effect = f"{money.text(one.before)} -> {money.text(one.after)}"
                self.stdout.write(f"{customer.code}: next invoice {effect}{_at_once(one)}")
        moved = sum(not one.skipped for one in found)
        done = "would be moved" if dry_run else "moved"
        self.stdout.write(f"{moved} {done}, {len(found) - moved} left alone.")


def _version(text: str) -> PlanVersion:
    vendor, plan, number = (*text.split("/"), "", "", "")[:3]
    if text.count("/") != 2 or not number.isdecimal():
        raise CommandError(f"{text!r} is no version: write VENDOR/PLAN/NUMBER, as acme/growth/2.")
    found = PlanVersion.objects.filter(
        plan__vendor__code=vendor, plan__code=plan, number=int(number)
    )
    version = found.select_related("plan").first()
    if version is None:
        raise CommandError(f"there is no version {text!r}")
    return version


def _at_once(one: Move) -> str:
    if one.charged is not None and one.charged.amount:
        return f", charged now {money.text(one.charged)}"
    if one.credited is not None and one.credited.amount:
        return f", credited {money.text(one.credited)}"
    return ""


def _as_json(one: Move) -> dict[str, Any]:
    amounts = {
        "next_invoice_before_micros": one.before,
        "next_invoice_after_micros": one.after,
        "charged_micros": one.charged,
        "credited_micros": one.credited,
    }
    return {
        "customer": one.subscription.customer.code,
        "subscription": str(one.subscription.pk),
        "skipped": one.skipped or None,
        "currency": one.subscription.customer.currency,
        **{name: None if of is None else money.to_micros(of) for name, of in amounts.items()},
    }
