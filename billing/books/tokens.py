"""Tokens: granted, used, expired and taken back, at the price of their lots; and overage."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

from billing.books import chart
from billing.books.standings import Day, Standing
from ledger.worths import LotWorth


def _tokens(
    day: Day, debit: str, credit: str, micros: Callable[[LotWorth], int]
) -> Iterator[Standing]:
    # What a lot had used is 0 again when all of it was given back: that is to be booked, too.
    for lot in day.worths:
        if is_in_books(lot, ends_at=day.ends_at):
            yield Standing(
                subject=f"lot:{lot.lot_id}",
                customer_id=day.customer_ids[lot.account_id],
                currency=lot.currency,
                debit=debit,
                credit=credit,
                micros=micros(lot),
                happened_on=day.day,
            )


def is_in_books(lot: LotWorth, *, ends_at: datetime) -> bool:
    """Tokens of a period to come are nobody's yet."""
    return lot.effective_at < ends_at or lot.out_microtokens > 0


def granted(day: Day) -> Iterator[Standing]:
    effective_on = {
        f"lot:{lot.lot_id}": lot.effective_at.astimezone(UTC).date() for lot in day.worths
    }

    def price(lot: LotWorth) -> int:
        # What rolled over was granted before: it stays deferred.
        return lot.price_micros if lot.rolled_from_lot_id is None else 0

    for one in _tokens(day, chart.UNBILLED_TOKENS, chart.DEFERRED_TOKENS, price):
        yield replace(one, happened_on=effective_on[one.subject])


def used(day: Day) -> Iterator[Standing]:
    return _tokens(
        day,
        chart.DEFERRED_TOKENS,
        chart.REVENUE_TOKENS,
        lambda lot: lot.used_micros if lot.kind == "prepaid" else 0,
    )


def expired(day: Day) -> Iterator[Standing]:
    return _tokens(day, chart.DEFERRED_TOKENS, chart.BREAKAGE, lambda lot: lot.expired_micros)


def revoked(day: Day) -> Iterator[Standing]:
    return _tokens(day, chart.DEFERRED_TOKENS, chart.REFUNDS, lambda lot: lot.revoked_micros)


def overage(day: Day) -> Iterator[Standing]:
    return _tokens(
        day,
        chart.UNBILLED_OVERAGE,
        chart.REVENUE_OVERAGE,
        lambda lot: lot.used_micros if lot.kind == "overage" else 0,
    )
