"""Lots: granted, drawn down, run out, expired, rolled over; overage and debt."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from ledger import accounts, debiting, grants, queries, receipts
from ledger.errors import OtherCurrency
from ledger.queries import LotNow
from ledger.units import NEVER, shard_of
from ledger.value import Tier
from tests.ledger.builders import (
    A_MICROSECOND,
    HOUR,
    NOON,
    accept,
    debit,
    drain,
    make_account,
    make_lot,
    make_overage,
    make_run,
    make_shop,
)

TOKEN = 1_000_000
EURO = 1_000_000


def lot(lot_id: int | None, account_id: int) -> LotNow:
    [found] = [one for one in queries.lots(account_ids=[account_id]) if one.id == lot_id]
    return found


def available(account_id: int, at=NOON) -> int:
    return queries.balances(account_ids=[account_id], at=at)[account_id].available_microtokens


def debt(account_id: int) -> int:
    return queries.balances(account_ids=[account_id], at=NOON)[account_id].debt_microtokens


def drawn(shop, run_id: str, code: str = "acme") -> list[tuple[str, int, int]]:
    """(kind of lot, microtokens, micros) of each slice, as the receipt tells it."""
    facts = accounts.find(book_id=shop.book_id, code=code)
    receipt = receipts.receipt(account=facts, run_id=run_id)
    return [(one.lot_kind, one.microtokens, one.micros) for one in receipt.drawn]


def movements(lot_id: int) -> list[tuple[str, int]]:
    return [
        (one.kind, one.microtokens)
        for one in queries.movements(lot_id=lot_id)
        if one.kind != "grant"
    ]


def test_an_annual_pool_closes_with_200_000_rolled_over_and_100_000_expired(shop, account_id):
    """1,000,000 tokens for 10,000.00; 700,000 used; a fifth of what was granted may roll over."""
    pool = make_lot(
        account_id,
        1_000_000 * TOKEN,
        price_micros=10_000 * EURO,
        hours=10,
        rollover_max=200_000 * TOKEN,
        rollover_hours=20,
    )
    debit(shop, [make_run(70_000 * TOKEN) for _ in range(10)])
    closed = grants.close_lot(lot_id=pool, at=NOON + 10 * HOUR)
    assert (closed.rolled_microtokens, closed.rolled_micros) == (200_000 * TOKEN, 2_000 * EURO)
    assert (closed.expired_microtokens, closed.expired_micros) == (100_000 * TOKEN, 1_000 * EURO)
    assert queries.consumed(lot_id=pool, account_id=account_id) == 700_000 * TOKEN
    earned = 10_000 * EURO - closed.rolled_micros - closed.expired_micros
    assert earned == 7_000 * EURO
    rolled = lot(closed.rolled_lot_id, account_id)
    assert (rolled.granted_microtokens, rolled.price_micros) == (200_000 * TOKEN, 2_000 * EURO)
    assert (rolled.effective_at, rolled.expires_at) == (NOON + 10 * HOUR, NOON + 20 * HOUR)


@pytest.mark.parametrize(
    ("granted", "left", "rolled", "expired"),
    [
        (1_000, 333, 200, 133),
        (7, 7, 1, 6),
        (1_000, 200, 200, 0),
        (1_000, 150, 150, 0),
        (4, 4, 0, 4),
    ],
)
def test_a_fifth_of_what_was_granted_rolls_over_and_the_rest_expires(
    shop, account_id, granted, left, rolled, expired
) -> None:
    lot_id = make_lot(account_id, granted, hours=10, rollover_max=granted // 5, rollover_hours=20)
    debit(shop, [make_run(granted - left)])
    closed = grants.close_lot(lot_id=lot_id, at=NOON + 10 * HOUR)
    assert (closed.rolled_microtokens, closed.expired_microtokens) == (rolled, expired)
    expected = [("roll_over", rolled), ("expire", expired)]
    assert movements(lot_id) == [one for one in expected if one[1]]
    assert grants.close_lot(lot_id=lot_id, at=NOON + 11 * HOUR) == closed


def test_what_rolls_over_is_worth_what_it_is_worth_in_its_place(shop, account_id) -> None:
    """Of three tokens for 10 the first two are worth 6, the last 4: it takes these along."""
    lot_id = make_lot(account_id, 3, price_micros=10, hours=1, rollover_max=1, rollover_hours=9)
    debit(shop, [make_run(2)])
    closed = grants.close_lot(lot_id=lot_id, at=NOON + HOUR)
    assert (closed.rolled_microtokens, closed.rolled_micros) == (1, 4)
    [rolled] = [
        lot for lot in queries.lots(account_ids=[account_id]) if lot.id == closed.rolled_lot_id
    ]
    assert rolled.price_micros == 4


def test_a_single_microtoken_that_does_not_roll_over_expires(shop, account_id) -> None:
    lot_id = make_lot(account_id, 5, hours=1, rollover_max=4, rollover_hours=9)
    closed = grants.close_lot(lot_id=lot_id, at=NOON + HOUR)
    assert (closed.rolled_microtokens, closed.expired_microtokens) == (4, 1)


def test_what_rolled_over_does_not_roll_over_again(shop, account_id) -> None:
    lot_id = make_lot(account_id, 1_000, hours=10, rollover_max=200, rollover_hours=20)
    first = grants.close_lot(lot_id=lot_id, at=NOON + 10 * HOUR)
    assert first.rolled_lot_id is not None
    second = grants.close_lot(lot_id=first.rolled_lot_id, at=NOON + 20 * HOUR)
    assert (second.rolled_microtokens, second.expired_microtokens) == (0, 200)


def test_rolled_tokens_are_used_before_the_next_allotment_that_ends_with_them(shop, account_id):
    first = make_lot(account_id, 1_000, hours=10, rollover_max=200, rollover_hours=20)
    second = make_lot(account_id, 1_000, from_hours=10, hours=20, at=NOON + HOUR)
    closed = grants.close_lot(lot_id=first, at=NOON + 11 * HOUR)
    debit(shop, [make_run(250, at=NOON + 12 * HOUR)])
    assert closed.rolled_lot_id is not None
    assert lot(closed.rolled_lot_id, account_id).remaining_microtokens == 0
    assert lot(second, account_id).remaining_microtokens == 950


def test_two_rolled_lots_that_end_together_expire_together(shop, account_id) -> None:
    for _ in range(2):
        make_lot(account_id, 10, hours=10, rollover_max=5, rollover_hours=20)
    assert grants.expire_due(at=NOON + 10 * HOUR) == 2
    assert available(account_id, NOON + 20 * HOUR - A_MICROSECOND) == 10
    assert available(account_id, NOON + 20 * HOUR) == 0
    assert grants.expire_due(at=NOON + 20 * HOUR) == 2
    assert grants.expire_due(at=NOON + 20 * HOUR) == 0


def test_expiry_takes_only_its_own_lot(shop, account_id) -> None:
    promotional = make_lot(account_id, 50, hours=0)
    paid = make_lot(account_id, 100, price_micros=100)
    # Used in time, and accepted before the promotional lot is closed.
    accept(shop, [make_run(50, at=NOON - A_MICROSECOND)])
    assert grants.expire_due(at=NOON) == 1
    assert movements(promotional) == []
    assert lot(paid, account_id).remaining_microtokens == 100
    assert drain(account_id) == 0


def test_an_expired_lot_serves_nobody_even_before_it_is_closed(shop, account_id) -> None:
    lot_id = make_lot(account_id, 10, hours=0)
    debit(shop, [make_run(4, at=NOON + 3 * HOUR)])
    assert lot(lot_id, account_id).out_microtokens == 0
    assert debt(account_id) == 4
    assert available(account_id, NOON) == 0
    assert available(account_id, NOON - A_MICROSECOND) == 10


def test_a_run_in_time_finds_its_lot_although_it_arrives_late(shop, account_id) -> None:
    lot_id = make_lot(account_id, 10, hours=0, grace_hours=24)
    assert grants.expire_due(at=NOON + 24 * HOUR - A_MICROSECOND) == 0
    debit(shop, [make_run(4, at=NOON - timedelta(seconds=10))], at=NOON + timedelta(minutes=10))
    assert lot(lot_id, account_id).out_microtokens == 4
    assert grants.expire_due(at=NOON + 24 * HOUR) == 1
    assert movements(lot_id) == [("expire", 6)]


def test_after_the_grace_a_late_run_finds_neither_its_lot_nor_what_rolled_over(shop, account_id):
    lot_id = make_lot(account_id, 10, hours=0, grace_hours=24, rollover_max=2, rollover_hours=100)
    grants.expire_due(at=NOON + 24 * HOUR)
    debit(shop, [make_run(1, at=NOON - HOUR)])
    assert debt(account_id) == 1
    debit(shop, [make_run(1, at=NOON)])
    assert debt(account_id) == 1
    assert queries.consumed(lot_id=lot_id, account_id=account_id) == 0


def test_a_closed_periods_run_may_not_use_a_later_grant(shop, account_id) -> None:
    later = make_lot(account_id, 10, from_hours=0)
    debit(shop, [make_run(4, at=NOON - HOUR)])
    assert lot(later, account_id).out_microtokens == 0


def test_a_refill_never_lowers_the_balance(shop, account_id) -> None:
    make_lot(account_id, 1_400)
    make_lot(account_id, 1_000)
    assert available(account_id) == 2_400


def test_a_purchase_is_a_lot_of_its_own(shop, account_id) -> None:
    make_lot(account_id, 10, hours=24)
    bought = make_lot(account_id, 100, price_micros=500)
    assert available(account_id, NOON) == 110
    assert available(account_id, NOON + 24 * HOUR) == 100
    assert lot(bought, account_id).expires_at is None


def test_a_bonus_is_a_lot_of_its_own_and_what_was_paid_is_for_what_was_bought(
    shop, account_id
) -> None:
    bonus = make_lot(account_id, 100)
    bought = make_lot(account_id, 1_000, price_micros=10_000)
    debit(
        shop, [make_run(100, run_id="of the bonus"), make_run(1_000, run_id="of what was bought")]
    )
    account = accounts.account(account_id=account_id)
    assert [
        [(drawn.lot_id, drawn.microtokens, drawn.micros) for drawn in found.drawn]
        for found in (
            receipts.receipt(account=account, run_id="of the bonus"),
            receipts.receipt(account=account, run_id="of what was bought"),
        )
    ] == [[(bonus, 100, 0)], [(bought, 1_000, 10_000)]]


def test_a_period_is_granted_once_however_often_its_job_runs(shop, account_id) -> None:
    for day in range(3):
        make_lot(account_id, 100, key="allotment:2026-06", hours=700, at=NOON + 24 * day * HOUR)
    assert available(account_id) == 100


def test_the_last_microtoken_of_a_lot_is_used_before_the_next_lot(shop, account_id) -> None:
    first, second = make_lot(account_id, 10, hours=9), make_lot(account_id, 10)
    for executions in (4, 6, 0, 1):
        debit(shop, [make_run(executions)])
    assert lot(first, account_id).out_microtokens == 10
    assert lot(second, account_id).out_microtokens == 1


def test_a_soonest_expiring_lot_granted_in_between_is_drawn_next(shop, account_id) -> None:
    old = make_lot(account_id, 10)
    debit(shop, [make_run(3)])
    urgent = make_lot(account_id, 10, hours=1)
    debit(shop, [make_run(3)])
    assert lot(old, account_id).out_microtokens == 3
    assert lot(urgent, account_id).out_microtokens == 3


def test_a_grant_loses_nothing_of_the_lot_that_was_in_use(shop, account_id) -> None:
    """The first debit takes the lot into use; the second is known to the account's row alone."""
    old = make_lot(account_id, 10)
    for executions in (3, 4):
        debit(shop, [make_run(executions)])
    make_lot(account_id, 10)
    assert lot(old, account_id).out_microtokens == 7


TIERS = (
    Tier(up_to_microtokens=10 * TOKEN, micros_per_token=0),
    Tier(up_to_microtokens=None, micros_per_token=20_000),
)


def test_beyond_its_lots_a_run_is_overage_at_its_periods_tiers(shop, account_id) -> None:
    make_lot(account_id, 5 * TOKEN, price_micros=EURO)
    make_overage(account_id, tiers=TIERS)
    debit(shop, [make_run(8 * TOKEN, run_id="a"), make_run(8 * TOKEN, run_id="b")])
    assert drawn(shop, "a") == [("prepaid", 5 * TOKEN, EURO), ("overage", 3 * TOKEN, 0)]
    assert drawn(shop, "b") == [("overage", 8 * TOKEN, 20_000)]


def test_overage_goes_to_the_period_in_which_the_run_occurred(shop, account_id) -> None:
    may = make_overage(account_id, from_hours=-10, hours=0)
    june = make_overage(account_id, from_hours=0, hours=10)
    debit(shop, [make_run(3, at=NOON), make_run(4, at=NOON - A_MICROSECOND)])
    assert lot(may, account_id).out_microtokens == 4
    assert lot(june, account_id).out_microtokens == 3


def test_beyond_the_hard_cap_a_run_is_debt(shop, account_id) -> None:
    overage = make_overage(account_id, cap_microtokens=5)
    debit(shop, [make_run(8, run_id="a")])
    assert drawn(shop, "a") == [("overage", 5, 5), ("debt", 3, 0)]
    assert lot(overage, account_id).remaining_microtokens == 0
    assert debt(account_id) == 3


def test_the_next_grant_repays_the_debt_as_entries_on_both_lots(shop, account_id) -> None:
    debit(shop, [make_run(8)])
    first = make_lot(account_id, 5, price_micros=500, key="first")
    assert debt(account_id) == 3
    assert lot(first, account_id).remaining_microtokens == 0
    second = make_lot(account_id, 5, key="second")
    assert debt(account_id) == 0
    assert movements(first) == [("repay", 5)]
    assert movements(second) == [("repay", 3)]
    debt_lot = account_debt_lot(account_id)
    assert movements(debt_lot) == [("repaid", 5), ("repaid", 3)]
    assert queries.consumed(lot_id=debt_lot, account_id=account_id) == 8
    assert available(account_id) == 2


def account_debt_lot(account_id: int) -> int:
    [found] = [one for one in queries.lots(account_ids=[account_id]) if one.kind == "debt"]
    return found.id


def test_a_repayment_is_answered_the_same_again(shop, account_id) -> None:
    debit(shop, [make_run(8)])
    answers = [
        grants.grant(
            account_id=account_id,
            microtokens=5,
            source="top_up",
            price_micros=0,
            currency="",
            priority=0,
            effective_at=NOON,
            expires_at=None,
            idempotency_key="k",
            at=NOON + hours * HOUR,
        )
        for hours in range(2)
    ]
    assert answers[0] == answers[1]
    assert answers[0].repaid_microtokens == 5


def test_debt_grows_again_after_it_was_repaid_in_part(shop, account_id) -> None:
    debit(shop, [make_run(8)])
    make_lot(account_id, 5)
    debit(shop, [make_run(2)])
    assert debt(account_id) == 5


def test_a_lot_is_not_closed_before_its_grace_is_over(shop, account_id) -> None:
    lot_id = make_lot(account_id, 10, hours=0, grace_hours=24)
    with pytest.raises(AssertionError), transaction.atomic():
        grants.close_lot(lot_id=lot_id, at=NOON + 24 * HOUR - A_MICROSECOND)
    grants.close_lot(lot_id=lot_id, at=NOON + 24 * HOUR)


def test_a_callers_key_cannot_stand_in_for_a_closing(shop, account_id) -> None:
    with pytest.raises(AssertionError):
        make_lot(account_id, 10, key="close:1")


@pytest.mark.parametrize(
    "terms",
    [
        {"hours": -1000},
        {"hours": -1001},
        {"hours": 5, "rollover_max": 11, "rollover_hours": 9},
        {"hours": 5, "rollover_max": 5, "rollover_hours": 5},
        {"hours": 5, "rollover_max": 5},
    ],
)
def test_the_database_refuses_terms_that_make_no_sense(shop, account_id, terms) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        make_lot(account_id, 10, **terms)


def test_money_needs_a_currency(shop, account_id) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        grants.grant(
            account_id=account_id,
            microtokens=5,
            source="top_up",
            price_micros=1,
            currency="",
            priority=0,
            effective_at=NOON,
            expires_at=None,
            idempotency_key="k",
            at=NOON,
        )


def test_100_euro_over_three_cost_centres_add_up(shop, account_id) -> None:
    lot_id = make_lot(account_id, 3, price_micros=100 * EURO)
    for centre in ("a", "b", "c"):
        debit(shop, [make_run(1, run_id=centre, cost_centre=centre)])
    micros = [one for run_id in "abc" for _, _, one in drawn(shop, run_id)]
    assert micros == [33_333_333, 33_333_333, 33_333_334]
    assert sum(micros) == 100 * EURO
    assert lot(lot_id, account_id).remaining_microtokens == 0


def test_two_draws_of_one_run_share_a_microtoken_of_neither(shop, account_id) -> None:
    """Every slice of every lot, of a run that crosses all of them."""
    for amount in (1, 2, 3):
        make_lot(account_id, amount)
    debit(shop, [make_run(7, run_id="a")])
    assert [microtokens for _, microtokens, _ in drawn(shop, "a")] == [1, 2, 3, 1]


def test_nothing_waits_where_nothing_was_accepted(shop, account_id) -> None:
    assert debiting.drain_block(shard=shard_of(account_id), at=NOON).is_empty
    assert debiting.waiting_shards() == []
    accept(shop, [make_run(1)])
    assert debiting.waiting_shards() == [shard_of(account_id)]
    assert debiting.drain_all(at=NOON) == 1
    assert debiting.waiting_shards() == []


def test_an_accounts_lots_are_all_of_one_currency(db: None) -> None:
    account_id = make_account(make_shop())
    make_lot(account_id, 10)
    make_lot(account_id, 10, price_micros=5)
    usual: dict[str, Any] = {
        "account_id": account_id,
        "microtokens": 1,
        "source": "top_up",
        "price_micros": 1,
        "priority": 0,
        "effective_at": NOON,
        "expires_at": None,
        "at": NOON,
    }
    with pytest.raises(OtherCurrency, match="has lots in EUR: it can have none in USD"):
        grants.grant(currency="USD", idempotency_key="other", **usual)
    grants.grant(currency="EUR", idempotency_key="same", **usual)
    assert len(queries.lots(account_ids=[account_id])) == 4


def test_lots_are_told_in_draw_down_order(shop, account_id) -> None:
    for at in (NOON + HOUR, NOON):
        for price in (7, 0):
            for hours in (None, 5, 3):
                for priority in (1, 0):
                    make_lot(
                        account_id, 1, priority=priority, hours=hours, price_micros=price, at=at
                    )
    make_overage(account_id)
    told = [
        (lot.kind, lot.priority, lot.expires_at or NEVER, lot.price_micros > 0, lot.issued_at)
        for lot in queries.lots(account_ids=[account_id])
    ]
    kinds = ["prepaid", "overage", "debt"]
    assert told == sorted(told, key=lambda one: (kinds.index(one[0]), *one[1:]))
    assert len(told) == 26
