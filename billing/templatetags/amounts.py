"""Tokens, money and shares as pages show them."""

from datetime import datetime, timedelta

from django import template
from django.utils import timezone
from djmoney.money import Money

from billing import money as billing_money
from billing.models import InvoiceLine
from billing.packs import Quote
from ledger.units import MICROTOKENS_PER_TOKEN, to_tokens

register = template.Library()

STATES_OF_TOP_UPS = {
    "pending": "Not paid yet",
    "processing": "Payment under way",
    "failed": "Payment failed",
    "expired": "Not bought",
    "frozen": "Frozen",
    "lost": "Lost to a dispute",
}
WORDS = {
    "allotment": "Allotment",
    "top_up": "Top-up",
    "welcome": "Welcome gift",
    "rollover": "Rolled over",
    "roll_over": "Rolled over",
    "debt": "Owed",
}


@register.filter
def tokens(microtokens: int) -> str:
    """1,234.5: as many decimals as there are."""
    amount = to_tokens(microtokens)
    return f"{amount.normalize():,f}" if amount else "0"


@register.filter
def count(number: int) -> str:
    """1,234."""
    return f"{number:,}"


@register.filter
def money(amount: Money) -> str:
    """€1,234.50."""
    return billing_money.text(amount)


@register.filter
def exact_cost(line: InvoiceLine) -> str:
    """What a line costs before it is rounded: €0.0125."""
    return billing_money.price_text(line.micros, line.amount.currency.code)


@register.filter
def words(code: str) -> str:
    """A code of ours as a person says it."""
    return WORDS.get(code) or code.replace("_", " ").capitalize()


@register.filter
def top_up_state(state: str) -> str:
    """How a top-up stands, as a person says it."""
    return STATES_OF_TOP_UPS.get(state) or state.capitalize()


@register.filter
def price_of_a_token(quote: Quote) -> str:
    """What one token that is paid costs, to a ten-thousandth if it does not come out even."""
    currency = quote.price.currency.code
    micros = billing_money.to_micros(quote.price) * MICROTOKENS_PER_TOKEN
    each, rest = divmod(micros, quote.microtokens)
    if not rest:
        return billing_money.price_text(each, currency)
    return f"about {billing_money.price_text(each // 100 * 100, currency)}"


@register.filter
def last_day(ends_at: datetime | None) -> str:
    """The last day on which something holds that ends at an instant: 30 Nov 2026."""
    if ends_at is None:
        return ""
    local = timezone.localtime(ends_at - timedelta(microseconds=1))
    return f"{local.day} {local:%b %Y}"
