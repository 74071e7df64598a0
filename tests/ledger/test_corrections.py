"""Voids: tokens go home, what has expired stays expired, debt shrinks; the receipt has versions."""

import pytest
from django.db import connection

from ledger import accounts, corrections, grants, queries, receipts
from ledger.errors import IdempotencyKeyReused, MoreThanIsLeft, UnknownRun
from ledger.models import Block, Correction, Entry
from ledger.totals import unpack
from ledger.value import Tier
from tests.ledger.builders import (
    HOUR,
    NOON,
    debit,
    make_lot,
    make_overage,
    make_run,
    next_number,
)

LATER = NOON + 600 * HOUR


def void(account_id, run_id, microtokens=None, *, key=None, reason="wrong", at=LATER):
    return corrections.void(
        account=accounts.account(account_id=account_id),
        run_id=run_id,
        microtokens=microtokens,
        reason=reason,
        idempotency_key=f"key-{next_number()}" if key is None else key,
        at=at,
    )


def receipt(account_id, run_id):
    return receipts.receipt(account=accounts.account(account_id=account_id), run_id=run_id)


def out(lot_id: int) -> int:
    [found] = [
        lot.out_microtokens
        for lot in queries.lots(account_ids=[account_of(lot_id)])
        if lot.id == lot_id
    ]
    return found


def account_of(lot_id: int) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT account_id FROM ledger_lot WHERE id = %s", [lot_id])
        [account_id] = cursor.fetchone()
        return int(account_id)


def moved(lot_id: int) -> list[tuple[str, int, int]]:
    """Of a lot, what corrections and operations moved: kind, out before, microtokens."""
    entries = Entry.objects.filter(lot_id=lot_id, operation_key__isnull=False).exclude(kind="grant")
    return [
        (one.kind, one.out_before_microtokens, one.microtokens) for one in entries.order_by("id")
    ]


def test_a_void_gives_back_all_that_a_run_took(shop, account_id) -> None:
    lot = make_lot(account_id, 100, price_micros=1_000)
    debit(shop, [make_run(7, run_id="r"), make_run(5)])
    corrected = void(account_id, "r")
    assert (corrected.version, corrected.microtokens, corrected.micros) == (2, -7, -70)
    assert out(lot) == 5
    assert moved(lot) == [("return", 12, 7)]
    lines = queries.runs(account_id=account_id, runs_max=9)
    assert [line.microtokens for line in lines] == [5, 0]


def test_the_receipt_has_a_version_that_is_linked_to_the_first(shop, account_id) -> None:
    make_lot(account_id, 100, price_micros=1_000)
    debit(shop, [make_run(7, run_id="r")])
    first = receipt(account_id, "r")
    assert (first.version, first.corrections, first.issued_at) == (1, [], first.recorded_at)
    void(account_id, "r", 3, reason="a page was blank")
    second = receipt(account_id, "r")
    assert (second.number, second.version, second.microtokens) == (first.number, 2, 4)
    assert second.micros_by_currency == {"EUR": 40}
    assert second.inferences == first.inferences
    [correction] = second.corrections
    assert (correction.version, correction.kind, correction.reason) == (
        2,
        "void",
        "a page was blank",
    )
    assert (correction.microtokens, correction.micros) == (-3, -30)
    assert correction.recorded_at == LATER


def test_parts_of_a_run_go_back_in_the_order_in_which_it_drew(shop, account_id) -> None:
    """It drew 5 of A and 5 of B; of 7 given back A has 5 and B 2."""
    a = make_lot(account_id, 5, priority=1)
    b = make_lot(account_id, 50, priority=2)
    debit(shop, [make_run(10, run_id="r")])
    void(account_id, "r", 7)
    assert (moved(a), moved(b)) == ([("return", 5, 5)], [("return", 5, 2)])
    assert [(one.lot_id, one.microtokens) for one in receipt(account_id, "r").drawn] == [(b, 3)]
    void(account_id, "r")
    assert (out(a), out(b)) == (0, 0)
    assert (receipt(account_id, "r").version, receipt(account_id, "r").drawn) == (3, [])


def test_what_is_given_back_serves_the_next_run(shop, account_id) -> None:
    a = make_lot(account_id, 5, priority=1)
    make_lot(account_id, 50, priority=2)
    debit(shop, [make_run(10, run_id="r"), make_run(1)])
    void(account_id, "r")
    debit(shop, [make_run(3, run_id="next")])
    assert [(one.lot_id, one.microtokens) for one in receipt(account_id, "next").drawn] == [(a, 3)]


def test_what_belongs_to_a_lot_that_has_expired_since_expires_again(shop, account_id) -> None:
    a = make_lot(account_id, 5, price_micros=50, hours=1)
    b = make_lot(account_id, 50)
    debit(shop, [make_run(3, run_id="early"), make_run(4, run_id="r")])
    grants.expire_due(at=NOON + 2 * HOUR)
    corrected = void(account_id, "r", at=NOON + 3 * HOUR)
    assert corrected.micros == -20
    assert moved(a) == [("return", 5, 2), ("expire", 3, 2)]
    assert moved(b) == [("return", 2, 2)]
    assert (out(a), out(b)) == (5, 0)
    assert (
        queries.balances(account_ids=[account_id], at=LATER)[account_id].available_microtokens == 50
    )


def test_what_comes_back_before_its_lot_is_closed_rolls_over_with_the_rest(
    shop, account_id
) -> None:
    a = make_lot(account_id, 10, hours=1, grace_hours=24, rollover_max=10, rollover_hours=90)
    debit(shop, [make_run(4, run_id="r")])
    void(account_id, "r", at=NOON + 2 * HOUR)
    assert moved(a) == [("return", 4, 4)]
    closed = grants.close_lot(lot_id=a, at=NOON + 25 * HOUR)
    assert closed.rolled_microtokens == 10


def test_a_lot_that_is_due_but_not_closed_yet_keeps_nothing_that_comes_back(
    shop, account_id
) -> None:
    a = make_lot(account_id, 10, hours=1, rollover_max=10, rollover_hours=90)
    debit(shop, [make_run(4, run_id="r")])
    void(account_id, "r", at=NOON + 2 * HOUR)
    assert grants.close_lot(lot_id=a, at=NOON + 3 * HOUR).rolled_microtokens == 6
    assert moved(a) == [("return", 4, 4), ("expire", 0, 4), ("roll_over", 4, 6)]


def test_overage_shrinks_at_its_tiers(shop, account_id) -> None:
    tiers = [
        Tier(up_to_microtokens=4, micros_per_token=0),
        Tier(up_to_microtokens=None, micros_per_token=1_000_000),
    ]
    lot = make_overage(account_id, tiers=tiers)
    debit(shop, [make_run(4, run_id="free"), make_run(6, run_id="paid")])
    assert void(account_id, "paid").micros == -6
    assert out(lot) == 4
    assert void(account_id, "free", 1).micros == 0
    assert receipt(account_id, "paid").micros_by_currency == {}


def test_debt_shrinks(shop, account_id) -> None:
    debit(shop, [make_run(4, run_id="r")])
    assert void(account_id, "r", 3).micros == 0
    assert queries.balances(account_ids=[account_id], at=LATER)[account_id].debt_microtokens == 1


def test_debt_that_was_repaid_goes_back_to_the_lots_that_repaid_it_the_latest_first(
    shop, account_id
) -> None:
    debit(shop, [make_run(10, run_id="r")])
    first = make_lot(account_id, 4, price_micros=40)
    second = make_lot(account_id, 5, price_micros=50)
    assert queries.balances(account_ids=[account_id], at=LATER)[account_id].debt_microtokens == 1
    corrected = void(account_id, "r", 8)
    assert (corrected.microtokens, corrected.micros) == (-8, 0)
    assert (out(first), out(second)) == (2, 0)
    assert moved(second) == [("repay", 0, 5), ("repaid", 5, 5)]
    assert moved(first) == [("repay", 0, 4), ("repaid", 4, 2)]
    void(account_id, "r")
    assert (out(first), out(second)) == (0, 0)


def test_two_runs_that_were_owed_and_repaid_are_given_back_one_after_the_other(
    shop, account_id
) -> None:
    debit(shop, [make_run(3, run_id="a"), make_run(3, run_id="b")])
    lot = make_lot(account_id, 10)
    void(account_id, "a")
    void(account_id, "b")
    assert out(lot) == 0


def test_what_repaid_a_debt_and_has_expired_since_expires_again(shop, account_id) -> None:
    debit(shop, [make_run(3, run_id="r")])
    lot = make_lot(account_id, 5, hours=1)
    grants.expire_due(at=NOON + 2 * HOUR)
    void(account_id, "r")
    assert moved(lot) == [("repay", 0, 3), ("expire", 3, 2), ("repaid", 5, 3), ("expire", 2, 3)]


def test_no_more_is_given_back_than_is_left(shop, account_id) -> None:
    make_lot(account_id, 100)
    debit(shop, [make_run(7, run_id="r"), make_run(0, run_id="free")])
    void(account_id, "r", 4)
    for run_id, microtokens, left in (("r", 4, 3), ("free", None, 0)):
        with pytest.raises(MoreThanIsLeft) as refused:
            void(account_id, run_id, microtokens)
        assert refused.value.left_microtokens == left
    void(account_id, "r")
    with pytest.raises(MoreThanIsLeft):
        void(account_id, "r")


def test_a_void_is_done_once_under_its_key(shop, account_id) -> None:
    lot = make_lot(account_id, 100)
    debit(shop, [make_run(7, run_id="r"), make_run(7, run_id="other")])
    first = void(account_id, "r", 2, key="k")
    assert void(account_id, "r", 2, key="k") == first
    assert out(lot) == 12
    for run_id, microtokens, reason in (("r", 3, "wrong"), ("other", 2, "wrong"), ("r", 2, "x")):
        with pytest.raises(IdempotencyKeyReused):
            void(account_id, run_id, microtokens, key="k", reason=reason)


def test_a_run_that_is_not_debited_is_unknown(shop, account_id) -> None:
    with pytest.raises(UnknownRun):
        void(account_id, "r")


def test_a_correction_is_sealed_in_a_block_and_added_to_usage_at_the_runs_own_time(
    shop, account_id
) -> None:
    make_lot(account_id, 100, price_micros=1_000)
    debit(shop, [make_run(7, run_id="r")])
    void(account_id, "r", 3)
    first, second = Block.objects.order_by("number")
    assert (second.runs_count, second.corrections_count) == (0, 1)
    assert (second.microtokens, second.micros) == (-3, -30)
    assert bytes(second.previous_hash) == bytes(first.hash)
    [before], [after] = unpack(bytes(first.totals)), unpack(bytes(second.totals))
    for name in ("account_id", "attribution_key", "quarter", "engine_id"):
        assert before[name] == after[name]
    assert (after["runs_count"], after["microtokens"], after["micros"]) == (0, -3, -30)
    correction = Correction.objects.get()
    assert (correction.block_number, correction.block_position) == (2, 0)


def test_what_comes_back_to_a_closed_lot_expires_though_the_clock_is_put_back(
    shop, account_id
) -> None:
    lot_id = make_lot(account_id, 10, hours=2)
    debit(shop, [make_run(4, run_id="r")])
    assert grants.expire_due(at=NOON + 3 * HOUR) == 1
    void(account_id, "r", at=NOON + HOUR)
    assert out(lot_id) == 10
    assert grants.expire_due(at=NOON + 4 * HOUR) == 0
