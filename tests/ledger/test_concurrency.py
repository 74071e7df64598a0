"""Real threads on committed data: whoever races, each run is debited once and no token twice."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from threading import Barrier
from typing import Any

import msgspec
import pytest
from django.db import connection, connections

from ledger import accounts, corrections, debiting, grants, parking, queries, receipts
from ledger.catalog import NewRate
from ledger.errors import MoreThanIsLeft
from ledger.intake import NewPart
from ledger.models import Account, Attribution, Intake, Run
from ledger.units import shard_of
from tests.ledger.builders import (
    HOUR,
    NOON,
    RATES,
    accept,
    debit,
    make_account,
    make_lot,
    make_overage,
    make_run,
    publish_rates,
)

pytestmark = pytest.mark.django_db(transaction=True)
LATER = NOON + 500 * HOUR


def in_parallel(works: Sequence[Callable[[], Any]]) -> list[Any]:
    """Start all at once, each in a thread with a connection of its own; their answers."""
    start = Barrier(len(works))

    def run(work: Callable[[], Any]) -> Any:
        try:
            connection.ensure_connection()
            start.wait(20)
            return work()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(run, works))


def test_twenty_accepts_of_the_same_run_are_one_debit(shop, account_id) -> None:
    make_lot(account_id, 100)
    run = make_run(7, run_id="r")
    in_parallel([lambda: debit(shop, [run])] * 20)
    assert Run.objects.count() == 1
    assert (
        queries.balances(account_ids=[account_id], at=NOON)[account_id].available_microtokens == 93
    )
    assert Attribution.objects.count() == 1
    assert not Intake.objects.exists()


def test_twenty_bodies_under_one_id_are_one_run_and_nineteen_conflicts(shop, account_id) -> None:
    batches = in_parallel(
        [
            lambda cost=cost: debit(shop, [make_run(cost, run_id="r")])  # type: ignore[misc]
            for cost in range(1, 21)
        ]
    )
    statuses = [
        one.status
        for batch in batches
        for one in receipts.of_batch(book_id=shop.book_id, batch_id=batch.batch_id)
    ]
    assert sorted(statuses) == ["conflict"] * 19 + ["debited"]


def test_racing_debits_take_each_token_once(shop, account_id) -> None:
    """20 runs of 10 find 100 prepaid tokens: ten are paid by them, the rest by overage."""
    make_lot(account_id, 60)
    make_lot(account_id, 40)
    overage = make_overage(account_id)
    in_parallel([lambda: debit(shop, [make_run(10)])] * 20)
    left = {lot.id: lot.out_microtokens for lot in queries.lots(account_ids=[account_id])}
    assert left.pop(overage) == 100
    assert sorted(left.values()) == [0, 40, 60]


def test_two_drains_of_one_shard_share_its_work(shop, account_id) -> None:
    for _ in range(30):
        accept(shop, [make_run(1) for _ in range(20)])
    shard = shard_of(account_id)
    counts = in_parallel([lambda: debiting.drain_shard(shard=shard, at=LATER)] * 4)
    assert sum(counts) == 600
    assert Run.objects.count() == 600


def grant_twelve_lots(account_id: int) -> None:
    for n in range(12):
        make_lot(account_id, 7, hours=1 + n % 8, rollover_max=2, rollover_hours=20, key=f"lot {n}")


def expire_hour_by_hour() -> None:
    for n in range(12):
        grants.expire_due(at=NOON + n * HOUR)


def test_drains_grants_overage_and_expiry_of_one_account_race(shop, account_id) -> None:
    for n in range(40):
        accept(shop, [make_run(3, at=NOON + n % 9 * HOUR) for _ in range(5)])

    def send_more() -> None:
        for n in range(12):
            debit(shop, [make_run(2, at=NOON + n * HOUR)])

    in_parallel(
        [
            lambda: debiting.drain_shard(shard=shard_of(account_id), at=LATER),
            lambda: grant_twelve_lots(account_id),
            lambda: grant_twelve_lots(account_id),
            expire_hour_by_hour,
            expire_hour_by_hour,
            send_more,
            lambda: make_overage(account_id, cap_microtokens=50, hours=5),
        ]
    )
    debiting.drain_all(at=LATER)
    expire_hour_by_hour()
    assert Run.objects.count() == 40 * 5 + 12
    granted = [one for one in queries.lots(account_ids=[account_id]) if one.source == "allotment"]
    assert len(granted) == 12


def test_a_lot_closed_by_many_is_closed_once(shop, account_id) -> None:
    lot_id = make_lot(account_id, 10, hours=0, rollover_max=2, rollover_hours=9)
    closings = in_parallel([lambda: grants.close_lot(lot_id=lot_id, at=NOON)] * 8)
    assert len(set(closings)) == 1
    assert (closings[0].rolled_microtokens, closings[0].expired_microtokens) == (2, 8)


def test_a_grant_sent_by_many_is_one_lot(shop, account_id) -> None:
    debit(shop, [make_run(3)])
    lots = in_parallel([lambda: make_lot(account_id, 10, key="k")] * 8)
    assert len(set(lots)) == 1
    balance = queries.balances(account_ids=[account_id], at=NOON)[account_id]
    assert (balance.available_microtokens, balance.debt_microtokens) == (7, 0)


def test_an_account_opened_by_many_is_one_account(shop) -> None:
    opened = in_parallel(
        [
            lambda: accounts.open_account(
                book_id=shop.book_id,
                code="new",
                name="New",
                rate_card_id=shop.rate_card_id,
                at=NOON,
            )
        ]
        * 8
    )
    assert len(set(opened)) == 1
    assert Account.objects.filter(code="new").count() == 1


def test_a_parked_run_priced_by_many_is_debited_once(shop, account_id) -> None:
    long_ago = NOON - 24 * 400 * HOUR
    accept(shop, [make_run(3, at=long_ago)])
    publish_rates(shop, [NewRate(meter="executions", microtokens=1)], effective_at=long_ago)

    def price_and_debit() -> int:
        shards = parking.price_parked(at=LATER)
        return sum(debiting.drain_shard(shard=shard, at=LATER) for shard in shards)

    assert sum(in_parallel([price_and_debit] * 6)) == 1
    assert Run.objects.count() == 1


def test_batches_that_name_the_same_people_in_opposite_order_do_not_deadlock(shop) -> None:
    codes = [f"a{n}" for n in range(12)]
    for code in codes:
        make_account(shop, code)

    def send(order: Sequence[str], centre: str) -> None:
        for n in range(4):
            accept(shop, [make_run(1, account=code, cost_centre=f"{centre}{n}") for code in order])

    in_parallel([lambda: send(codes, "c"), lambda: send(codes[::-1], "c")] * 3)
    assert debiting.drain_all(at=LATER) == 6 * 4 * 12


def test_readers_see_whole_blocks_while_debits_go_on(shop, account_id) -> None:
    """At any moment, what is out of all lots is what the debited runs cost."""
    for _ in range(3):
        make_lot(account_id, 50)

    def write() -> None:
        for _ in range(25):
            debit(shop, [make_run(4), make_run(5)])

    def read() -> list[int]:
        seen: list[int] = []
        for _ in range(60):
            lots = queries.lots(account_ids=[account_id])
            seen.append(sum(lot.out_microtokens for lot in lots))
        return seen

    _, seen = in_parallel([write, read])
    assert seen == sorted(seen)
    assert {out % 9 for out in seen} == {0}


def test_rates_published_while_runs_arrive_price_the_runs_after_them(shop, account_id) -> None:
    def publish() -> None:
        for n in range(5):
            publish_rates(shop, RATES, effective_at=NOON + timedelta(minutes=n))

    def send() -> None:
        for _ in range(20):
            assert accept(shop, [make_run(2, at=NOON + HOUR)]).runs[0].microtokens == 2

    in_parallel([publish, send, send])
    assert debiting.drain_all(at=LATER) == 40


def test_a_run_that_is_voided_by_many_at_once_is_given_back_once(shop, account_id) -> None:
    make_lot(account_id, 100)
    debit(shop, [make_run(7, run_id="r")])
    account = accounts.account(account_id=account_id)

    def void(key: str, microtokens: int) -> str:
        try:
            corrections.void(
                account=account,
                run_id="r",
                microtokens=microtokens,
                reason="",
                idempotency_key=key,
                at=LATER,
            )
        except MoreThanIsLeft:
            return "refused"
        return "given back"

    same = in_parallel([lambda: void("k", 2)] * 6)
    assert same == ["given back"] * 6
    others = in_parallel([partial(void, f"k{number}", 2) for number in range(6)])
    assert sorted(others) == ["given back"] * 2 + ["refused"] * 4
    found = receipts.receipt(account=account, run_id="r")
    assert (found.version, found.microtokens) == (4, 1)


def test_voids_grants_and_debits_at_once_leave_a_sound_ledger(shop, account_id) -> None:
    make_lot(account_id, 20, priority=1)
    debit(shop, [make_run(5, run_id=f"r{number}") for number in range(8)])
    account = accounts.account(account_id=account_id)

    def void(number: int) -> Any:
        return corrections.void(
            account=account,
            run_id=f"r{number}",
            reason="",
            idempotency_key=f"v{number}",
            at=LATER,
        )

    in_parallel(
        [partial(void, number) for number in range(8)]
        + [lambda: debit(shop, [make_run(3)])] * 4
        + [lambda: make_lot(account_id, 15)] * 4
    )
    balance = queries.balances(account_ids=[account_id], at=NOON)[account_id]
    assert balance.debt_microtokens == 0
    assert balance.available_microtokens == 20 + 60 - 12


def test_parts_of_one_run_from_many_workers_make_one_run(shop, account_id) -> None:
    make_lot(account_id, 100)
    sent = [
        msgspec.structs.replace(make_run(2, run_id="r"), part=NewPart(id=f"{number}"))
        for number in range(10)
    ]
    in_parallel([partial(debit, shop, [one]) for one in (*sent, *sent)])
    found = receipts.receipt(account=accounts.account(account_id=account_id), run_id="r")
    assert (found.microtokens, len(found.inferences), Run.objects.count()) == (20, 10, 11)
