"""Refund a top-up."""

import json
import uuid
from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone
from djmoney.money import Money

from billing import money, refunds
from billing.errors import BillingError
from billing.models import TopUp, TopUpPayment
from ledger.management.examples import CommandWithExamples
from ledger.units import from_tokens, tokens_text

EXAMPLE = """
examples: 400 of 500 tokens that cost 10 euros are left
  manage.py refund_top_up 0198c9d2-… --dry-run             what could go back
  manage.py refund_top_up 0198c9d2-… --reason "bought twice"
  manage.py refund_top_up 0198c9d2-… --tokens 100
  manage.py refund_top_up 0198c9d2-… --amount 10 --force   100 tokens are owed then

The tokens are frozen at once, and Stripe is asked in a moment. The number of a top-up stands in the
address of its page in the admin. Called again with the same --key it refunds nothing more.
"""


class Command(CommandWithExamples):
    help = "Refund what is left of a top-up, so many tokens of it, or so much money."
    examples = EXAMPLE

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("top_up", type=uuid.UUID, help="its number, a UUID")
        parser.add_argument("--tokens", help="so many tokens, for what they cost")
        parser.add_argument("--amount", help="so much money, with tax, in the top-up's currency")
        parser.add_argument("--force", action="store_true", help="also what is used: it is owed")
        parser.add_argument("--reason", default="", help="for your colleagues")
        parser.add_argument("--key", type=uuid.UUID, help="a UUID under which it is done once")
        parser.add_argument("--dry-run", action="store_true", help="say what could go back")
        parser.add_argument("--json", action="store_true", help="print the result as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        top_up = TopUp.objects.filter(pk=options["top_up"]).first()
        if top_up is None:
            raise CommandError(f"top_up: there is no top-up {options['top_up']}")
        if options["tokens"] and options["amount"]:
            raise CommandError("--amount: say tokens or money, not both")
        try:
            told = self._told(top_up, options)
        except BillingError as refusal:
            raise CommandError(str(refusal)) from None
        if options["json"]:
            self.stdout.write(json.dumps(told))
            return
        for name, value in told.items():
            self.stdout.write(f"{name.replace('_', ' ')}: {value}")

    def _told(self, top_up: TopUp, options: dict[str, Any]) -> dict[str, Any]:
        now = timezone.now()
        if options["dry_run"]:
            most = refunds.refundable(top_up=top_up, at=now)
            return {
                "tokens_left": tokens_text(most.microtokens),
                "amount_left": money.text(most.amount),
                "amount_at_most": money.text(most.amount_max),
            }
        payment = TopUpPayment.objects.filter(top_up=top_up).first()
        tokens, amount = _number(options, "tokens"), _number(options, "amount")
        refund = refunds.ask(
            top_up_id=top_up.pk,
            microtokens=None if tokens is None else _microtokens(tokens),
            amount=None if amount is None or payment is None else Money(amount, payment.currency),
            force=options["force"],
            reason=options["reason"],
            asked_by=None,
            idempotency_key=options["key"] or uuid.uuid4(),
            at=now,
        )
        return {
            "refund": str(refund.pk),
            "amount": money.text(refund.amount),
            "tokens": tokens_text(refund.microtokens or 0),
        }


def _number(options: dict[str, Any], name: str) -> Decimal | None:
    if options[name] is None:
        return None
    try:
        number = Decimal(options[name])
    except InvalidOperation:
        raise CommandError(f"--{name}: must be a number, such as 10.50") from None
    if not number.is_finite() or number <= 0:
        raise CommandError(f"--{name}: must be more than 0")
    return number


def _microtokens(tokens: Decimal) -> int:
    try:
        return from_tokens(tokens)
    except ValueError as error:
        raise CommandError(f"--tokens: {error}") from None
