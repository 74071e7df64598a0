"""What is read of an account now: at the very instants at which it changes."""

from django.db import connection

from ledger import prices, queries
from ledger.catalog import NewRate
from ledger.rating import Priced, Usage, price
from tests.ledger.builders import (
    A_MICROSECOND,
    HOUR,
    NOON,
    debit,
    make_lot,
    make_overage,
    make_run,
    publish_rates,
)


def test_a_lot_counts_from_its_beginning_until_just_before_its_end(shop, account_id) -> None:
    make_lot(account_id, 7, from_hours=1, hours=2)

    def available(at) -> int:
        balance = queries.balances(account_ids=[account_id], at=at)[account_id]
        return balance.available_microtokens

    begins, ends = NOON + HOUR, NOON + 2 * HOUR
    assert [available(at) for at in (begins - A_MICROSECOND, begins)] == [0, 7]
    assert [available(at) for at in (ends - A_MICROSECOND, ends)] == [7, 0]


def test_overage_counts_in_its_own_period(shop, account_id) -> None:
    make_overage(account_id, from_hours=-1, hours=1)
    debit(shop, [make_run(5)])
    balances = [
        queries.balances(account_ids=[account_id], at=at)[account_id]
        for at in (NOON, NOON + HOUR - A_MICROSECOND, NOON + HOUR)
    ]
    assert [one.overage_microtokens for one in balances] == [5, 5, 0]


def test_prices_that_change_while_they_are_read_are_read_again(shop) -> None:
    """A new version is published after the versions were read and before their book's revision."""
    rates = [NewRate(meter="executions", microtokens=9)]
    is_published = False

    def publish_then_read(execute, sql, *rest):
        nonlocal is_published
        if "ledger_rate" in sql and not is_published:
            is_published = True
            found = execute(sql, *rest)
            publish_rates(shop, rates, effective_at=NOON)
            return found
        return execute(sql, *rest)

    publish_rates(shop, [NewRate(meter="executions", microtokens=2)], effective_at=NOON)
    with connection.execute_wrapper(publish_then_read):
        known = prices.of_book(shop.book_id)
    assert is_published
    card = known.rate_cards[shop.rate_card_id]
    priced = price(card, "review", [Usage("engine", known_us(), {"executions": 1})])
    assert isinstance(priced, Priced)
    assert priced.microtokens == 9


def known_us() -> int:
    return int((NOON + HOUR).timestamp() * 1_000_000)
