"""Runs in parts: each part debited once, as it arrives; one receipt, issued at the run's end."""

import itertools
from datetime import timedelta

import msgspec
import pytest

from ledger import accounts, catalog, corrections, debiting, parking, parts, queries, receipts
from ledger.catalog import NewRate
from ledger.intake import NewPart
from ledger.models import Block, Conflict, PartedRun, Run
from ledger.totals import AMOUNTS, unpack
from tests.ledger.builders import (
    HOUR,
    NOON,
    RATES,
    accept,
    debit,
    drain,
    make_account,
    make_lot,
    make_run,
    next_number,
    publish_rates,
)

DEBITED_AT = NOON + 500 * HOUR
A_MINUTE = timedelta(minutes=1)


@pytest.fixture
def account_id(shop) -> int:
    account_id = make_account(shop)
    make_lot(account_id, 1_000, price_micros=10_000)
    return account_id


def part(part_id, executions=1, *, run_id="r", last=False, at=NOON, **said):
    whole = make_run(executions, run_id=run_id, at=at)
    return msgspec.structs.replace(whole, part=NewPart(id=part_id, last=last), **said)


def receipt(account_id, run_id="r"):
    return receipts.receipt(account=accounts.account(account_id=account_id), run_id=run_id)


def out(account_id) -> int:
    return sum(lot.out_microtokens for lot in queries.lots(account_ids=[account_id]))


def statuses(shop, accepted) -> list[str]:
    results = receipts.of_batch(book_id=shop.book_id, batch_id=accepted.batch_id)
    return [one.status for one in results]


def usage() -> dict[str, int]:
    totals = [row for block in Block.objects.all() for row in unpack(bytes(block.totals))]
    return {name: sum(int(row[name]) for row in totals) for name in AMOUNTS}


def test_each_part_is_debited_as_it_arrives_and_the_last_issues_the_receipt(
    shop, account_id
) -> None:
    debit(shop, [part("1", 2)])
    going_on = receipt(account_id)
    assert (going_on.issued_at, going_on.microtokens, out(account_id)) == (None, 2, 2)
    debit(shop, [part("2", 3)])
    debit(shop, [part("3", 4, last=True)])
    found = receipt(account_id)
    assert (found.issued_at, found.version, found.number) == (DEBITED_AT, 1, going_on.number)
    assert (found.microtokens, found.micros_by_currency) == (9, {"EUR": 90})
    assert sorted(one.microtokens for one in found.inferences) == [2, 3, 4]
    assert [one.microtokens for one in found.drawn] == [9]


def test_the_run_takes_one_number_and_counts_as_one_run(shop, account_id) -> None:
    debit(shop, [part("1"), part("2"), make_run(1, run_id="next"), part("3", last=True)])
    assert receipt(account_id).number.startswith("RUN-2026-06-1-")
    assert receipt(account_id, "next").number.startswith("RUN-2026-06-2-")
    lines = queries.runs(account_id=account_id, runs_max=9)
    assert [(line.run_id, line.microtokens) for line in lines] == [("next", 1), ("r", 3)]
    assert (usage()["runs_count"], usage()["accepted_first_count"], usage()["microtokens"]) == (
        2,
        2,
        4,
    )


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("at_once", [True, False])
def test_parts_in_any_order_and_twice_give_the_same_receipt(
    shop, account_id, order, at_once
) -> None:
    all_parts = [
        part("a", 1, at=NOON + HOUR),
        part("b", 2, last=True, at=NOON + 2 * HOUR),
        part("c", 3, at=NOON),
    ]
    arriving = [all_parts[position] for position in (*order, *order)]
    for batch in [arriving] if at_once else [[one] for one in arriving]:
        debit(shop, batch)
    found = receipt(account_id)
    assert [one.microtokens for one in found.inferences] == [3, 1, 2]
    assert (found.occurred_at, found.microtokens, found.micros_by_currency) == (
        NOON,
        6,
        {"EUR": 60},
    )
    assert out(account_id) == 6
    assert Run.objects.count() == 4
    assert found.issued_at == DEBITED_AT


def test_the_same_part_with_another_body_is_a_conflict(shop, account_id) -> None:
    debit(shop, [part("1", 2)])
    again = debit(shop, [part("1", 2), part("1", 3), part("2", 1)])
    assert statuses(shop, again) == ["debited", "conflict", "debited"]
    assert out(account_id) == 3


@pytest.mark.parametrize("at_once", [True, False])
def test_a_part_of_a_run_that_came_whole_is_a_conflict(shop, account_id, at_once) -> None:
    runs = [make_run(5, run_id="r"), part("1"), part("2")]
    if not at_once:
        debit(shop, runs[:1])
    accepted = debit(shop, runs)
    assert statuses(shop, accepted) == ["debited", "conflict", "conflict"]
    assert (out(account_id), Conflict.objects.count()) == (5, 2)


@pytest.mark.parametrize("at_once", [True, False])
def test_a_whole_run_under_the_id_of_one_in_parts_is_a_conflict(shop, account_id, at_once) -> None:
    runs = [part("1", 2), make_run(5, run_id="r")]
    if not at_once:
        debit(shop, runs[:1])
    assert statuses(shop, debit(shop, runs)) == ["debited", "conflict"]
    assert out(account_id) == 2


def test_only_conflicts_in_a_block_leave_nothing_to_debit(shop, account_id) -> None:
    debit(shop, [make_run(5, run_id="r")])
    accept(shop, [part("1")])
    shard = accounts.account(account_id=account_id).shard
    drained = debiting.drain_block(shard=shard, at=DEBITED_AT)
    assert (drained.runs_count, drained.repeated_count, drained.conflicts_count) == (0, 0, 1)


def test_a_run_of_which_nothing_comes_any_more_ends_after_a_while(shop, account_id) -> None:
    debit(shop, [part("1")])
    debit(shop, [part("2")], at=DEBITED_AT + 10 * A_MINUTE)
    assert parts.end_quiet(at=DEBITED_AT + 24 * A_MINUTE) == 0
    assert parts.end_quiet(at=DEBITED_AT + 25 * A_MINUTE) == 1
    assert parts.end_quiet(at=DEBITED_AT + 90 * A_MINUTE) == 0
    assert receipt(account_id).issued_at == DEBITED_AT + 25 * A_MINUTE


def test_how_long_is_quiet_can_be_set(shop, account_id) -> None:
    debit(shop, [part("1")])
    assert parts.end_quiet(quiet_for=A_MINUTE, at=DEBITED_AT + A_MINUTE) == 1


def test_a_part_after_the_end_is_debited_and_the_receipt_has_a_further_version(
    shop, account_id
) -> None:
    debit(shop, [part("1", 2, last=True)])
    debit(shop, [part("2", 3), part("3", 4)])
    found = receipt(account_id)
    assert (found.version, found.microtokens, out(account_id)) == (3, 9, 9)
    assert [(one.kind, one.microtokens) for one in found.corrections] == [("part", 0), ("part", 0)]
    assert found.issued_at == DEBITED_AT
    debit(shop, [part("2", 3)])
    assert receipt(account_id) == found


def test_parts_may_draw_on_several_lots(shop) -> None:
    account_id = make_account(shop)
    a = make_lot(account_id, 5, price_micros=50, priority=1)
    b = make_lot(account_id, 50, price_micros=100, priority=2)
    debit(shop, [part("1", 3), part("2", 4), part("3", 2, last=True)])
    drawn = [(one.lot_id, one.microtokens, one.micros) for one in receipt(account_id).drawn]
    assert drawn == [(a, 5, 50), (b, 4, 8)]


def test_a_part_that_fails_by_the_vendors_fault_makes_the_run_free_before_and_after(
    shop, account_id
) -> None:
    debit(shop, [part("1", 2), part("2", 3)])
    debit(shop, [part("3", 4, outcome="failed", fault="vendor")])
    found = receipt(account_id)
    assert (found.outcome, found.fault, found.microtokens) == ("failed", "vendor", 0)
    debit(shop, [part("4", 5), part("5", 1, last=True)])
    found = receipt(account_id)
    assert (found.microtokens, found.drawn, out(account_id)) == (0, [], 0)
    assert len(found.inferences) == 5
    assert (usage()["failed_count"], usage()["accepted_first_count"]) == (1, 0)
    assert (usage()["microtokens"], usage()["rework_microtokens"]) == (0, 0)


def test_the_first_part_may_say_that_the_run_failed(shop, account_id) -> None:
    debit(shop, [part("1", 2, outcome="failed", fault="vendor"), part("2", 3)])
    found = receipt(account_id)
    assert (found.outcome, found.fault, found.microtokens) == ("failed", "vendor", 0)
    assert out(account_id) == 0


def test_a_part_that_fails_by_the_customers_fault_leaves_what_was_used(shop, account_id) -> None:
    debit(shop, [part("1", 2)])
    debit(shop, [part("2", 3, last=True, outcome="failed", fault="customer")])
    found = receipt(account_id)
    assert (found.outcome, found.fault, found.microtokens) == ("failed", "customer", 5)
    assert (usage()["failed_count"], usage()["rework_microtokens"]) == (1, 5)


def test_a_run_in_parts_can_be_voided_in_the_order_of_its_parts(shop) -> None:
    account_id = make_account(shop)
    a = make_lot(account_id, 5, priority=1)
    b = make_lot(account_id, 50, priority=2)
    debit(shop, [part("1", 3), part("2", 4, last=True)])
    corrections.void(
        account=accounts.account(account_id=account_id),
        run_id="r",
        microtokens=6,
        reason="",
        idempotency_key=f"key-{next_number()}",
        at=DEBITED_AT,
    )
    assert [(one.lot_id, one.microtokens) for one in receipt(account_id).drawn] == [(b, 1)]
    assert {lot.id: lot.out_microtokens for lot in queries.lots(account_ids=[account_id])}[a] == 0


def test_what_the_vendor_waives_of_a_run_that_goes_on_covers_its_parts_to_come(
    shop, account_id
) -> None:
    debit(shop, [part("1", 3)])
    corrections.report_outcome(
        account=accounts.account(account_id=account_id),
        run_id="r",
        fault="vendor",
        reason="",
        idempotency_key="k",
        at=DEBITED_AT,
    )
    debit(shop, [part("2", 4)])
    assert (receipt(account_id).microtokens, out(account_id)) == (0, 0)
    assert PartedRun.objects.get().waived_at is not None


def test_a_run_in_parts_may_retake_another(shop, account_id) -> None:
    debit(shop, [make_run(3, run_id="first")])
    debit(shop, [part("1", retake_of="first"), part("2", retake_of="first", last=True)])
    assert receipt(account_id, "first").retaken_by == "r"
    assert receipt(account_id, "first").version == 2
    assert usage()["retakes_count"] == 1


def test_a_part_that_comes_after_its_run_was_done_again_is_rework_too(shop, account_id) -> None:
    debit(shop, [part("1", 2), make_run(9, run_id="again")])
    retake = msgspec.structs.replace(make_run(1), retake_of="r")
    debit(shop, [retake])
    assert usage()["rework_microtokens"] == 2
    debit(shop, [part("2", 3), part("3", 4)])
    assert (usage()["rework_microtokens"], usage()["rework_micros"]) == (9, 90)
    assert (receipt(account_id).microtokens, receipt(account_id).outcome) == (9, "retaken")


def test_a_part_without_a_rate_is_debited_when_it_has_one(shop, account_id) -> None:
    catalog.create_meter(book_id=shop.book_id, code="rows", name="Rows")
    unpriced = part("2", last=True)
    by_rows = msgspec.structs.replace(unpriced.inferences[0], quantities={"rows": 3})
    parked = accept(shop, [part("1", 2), msgspec.structs.replace(unpriced, inferences=[by_rows])])
    drain(account_id)
    assert sorted(statuses(shop, parked)) == ["debited", "unpriced"]
    assert receipt(account_id).issued_at is None
    publish_rates(shop, [*RATES, NewRate(meter="rows", microtokens=2)], effective_at=NOON)
    parking.price_parked(at=DEBITED_AT)
    drain(account_id)
    assert statuses(shop, parked) == ["debited", "debited"]
    assert (receipt(account_id).microtokens, receipt(account_id).issued_at) == (8, DEBITED_AT)


def test_many_parts_of_many_runs_take_few_statements(
    shop, account_id, django_assert_max_num_queries
) -> None:
    accept(shop, [part(f"{n}", run_id=f"run {n % 40}", last=n >= 160) for n in range(200)])
    with django_assert_max_num_queries(30):
        drain(account_id)
    assert queries.runs_count(account_ids=[account_id]) == 40
    assert PartedRun.objects.filter(ended_at__isnull=False).count() == 40
