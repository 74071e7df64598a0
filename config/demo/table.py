"""The demo's ending, told: a table for people, the same figures for machines."""

from typing import Any

from rich.console import Console
from rich.table import Table

from config.demo.cast import Cast
from config.demo.story import Ending, Outcome
from ledger.units import tokens_text


def show(console: Console, cast: Cast, ending: Ending) -> None:
    table = Table(title=f"{cast.vendor.name}: how the month ended", title_justify="left")
    table.add_column("Customer")
    for name in (
        "Granted",
        "Used",
        "Rolled over",
        "Expired",
        "Overage",
        "Bought",
        "Debt repaid",
        "Invoice",
    ):
        table.add_column(name, justify="right")
    for outcome in ending.outcomes:
        table.add_row(
            outcome.customer,
            *(
                f"{microtokens // 1_000_000:,}"
                for microtokens in (
                    outcome.granted_microtokens,
                    outcome.used_microtokens,
                    outcome.rolled_microtokens,
                    outcome.expired_microtokens,
                    outcome.overage_microtokens,
                    outcome.bought_microtokens,
                    outcome.repaid_microtokens,
                )
            ),
            _invoice(outcome),
        )
    console.print(table)
    console.print("Whole tokens; the invoice closes the month and pays the next one in advance.\n")
    per_second = ending.debited_count / max(ending.debited_seconds, 0.001)
    console.print(
        f"Runs sent: {ending.sent.runs_count:,}   debited: {ending.debited_count:,}"
        f"   per second, from the first sent to the last debited: {per_second:,.0f}"
    )
    console.print("[green]Ledger sound[/green]: every invariant holds, and all figures add up.\n")


def show_addresses(console: Console, cast: Cast, *, web: str) -> None:
    table = Table(title="Look around", title_justify="left")
    for name in ("Who", "Page", "Sign in as", "Password"):
        table.add_column(name, overflow="fold")
    for login in cast.logins:
        table.add_row(login.who, f"{web}{login.address}", login.email, cast.password)
    console.print(table)


def figures(ending: Ending) -> dict[str, Any]:
    """The table as plain values; token amounts as text, since they are exact decimals."""
    return {
        "runs_sent": ending.sent.runs_count,
        "runs_debited": ending.debited_count,
        "runs_per_second": round(ending.debited_count / max(ending.debited_seconds, 0.001)),
        "ledger_sound": True,
        "customers": [_figures(outcome) for outcome in ending.outcomes],
    }


def _figures(outcome: Outcome) -> dict[str, str]:
    payment = outcome.invoice.payment
    return {
        "customer": outcome.customer,
        "granted_tokens": tokens_text(outcome.granted_microtokens),
        "used_tokens": tokens_text(outcome.used_microtokens),
        "rolled_over_tokens": tokens_text(outcome.rolled_microtokens),
        "expired_tokens": tokens_text(outcome.expired_microtokens),
        "overage_tokens": tokens_text(outcome.overage_microtokens),
        "bought_tokens": tokens_text(outcome.bought_microtokens),
        "debt_repaid_tokens": tokens_text(outcome.repaid_microtokens),
        "invoice": outcome.invoice.finalization.number,
        "invoice_paid": f"{payment.amount.amount} {payment.amount.currency}",
    }


def _invoice(outcome: Outcome) -> str:
    amount = outcome.invoice.payment.amount
    return f"{amount.amount:,.2f} {amount.currency}, paid"
