"""How runs come out: failed by whose fault, retaken by which run; receipt and usage agree."""

import msgspec
import pytest

from ledger import (
    accounts,
    catalog,
    corrections,
    debiting,
    parking,
    queries,
    receipts,
    retakes,
)
from ledger.errors import MoreThanIsLeft, OutcomeKnown, UnknownInference
from ledger.intake import NewInference
from ledger.models import Block, Correction, Retake
from ledger.totals import AMOUNTS, unpack
from tests.ledger.builders import (
    HOUR,
    NOON,
    RATES,
    accept,
    debit,
    make_account,
    make_lot,
    make_run,
    next_number,
    publish_rates,
)

LATER = NOON + 600 * HOUR


@pytest.fixture
def account_id(shop) -> int:
    account_id = make_account(shop)
    make_lot(account_id, 1_000, price_micros=10_000)
    return account_id


def run_of(run_id, executions=7, **said):
    return msgspec.structs.replace(make_run(executions, run_id=run_id), **said)


def fail(account_id, run_id, fault, *, key=None, **used):
    return corrections.report_outcome(
        account=accounts.account(account_id=account_id),
        run_id=run_id,
        fault=fault,
        reason="it did not come through",
        idempotency_key=f"key-{next_number()}" if key is None else key,
        at=LATER,
        **used,
    )


def receipt(account_id, run_id):
    return receipts.receipt(account=accounts.account(account_id=account_id), run_id=run_id)


def out(account_id) -> int:
    return sum(lot.out_microtokens for lot in queries.lots(account_ids=[account_id]))


def usage() -> dict[str, int]:
    """What all blocks together add to usage."""
    totals = [row for block in Block.objects.all() for row in unpack(bytes(block.totals))]
    return {name: sum(int(row[name]) for row in totals) for name in AMOUNTS}


def counts() -> tuple[int, ...]:
    names = ("runs_count", "accepted_first_count", "failed_count", "retakes_count")
    return tuple(usage()[name] for name in names)


def test_a_run_that_fails_by_the_vendors_fault_costs_nothing_and_keeps_its_inferences(
    shop, account_id
) -> None:
    debit(shop, [run_of("r", outcome="failed", fault="vendor")])
    found = receipt(account_id, "r")
    assert (found.outcome, found.fault, found.microtokens, found.drawn) == (
        "failed",
        "vendor",
        0,
        [],
    )
    assert [one.microtokens for one in found.inferences] == [7]
    assert (found.version, out(account_id)) == (1, 0)
    assert counts() == (1, 0, 1, 0)


def test_a_run_that_fails_by_the_customers_fault_costs_what_was_used(shop, account_id) -> None:
    debit(shop, [run_of("r", outcome="failed", fault="customer")])
    found = receipt(account_id, "r")
    assert (found.outcome, found.fault, found.microtokens) == ("failed", "customer", 7)
    assert usage()["rework_microtokens"] == 7


def test_a_failure_told_afterwards_by_the_vendors_fault_gives_everything_back(
    shop, account_id
) -> None:
    debit(shop, [run_of("r")])
    fail(account_id, "r", "vendor")
    found = receipt(account_id, "r")
    assert (found.version, found.outcome, found.fault, found.microtokens) == (
        2,
        "failed",
        "vendor",
        0,
    )
    assert found.micros_by_currency == {}
    assert out(account_id) == 0
    assert counts() == (1, 0, 1, 0)
    assert (usage()["microtokens"], usage()["rework_microtokens"]) == (0, 0)


@pytest.mark.parametrize(
    ("used", "stays"),
    [
        ({}, 12),
        ({"used_microtokens": 5}, 5),
        ({"used_microtokens": 0}, 0),
        ({"used_inferences": [0, 2]}, 9),
        ({"used_inferences": []}, 0),
    ],
)
def test_a_failure_by_the_customers_fault_leaves_what_was_used(
    shop, account_id, used, stays
) -> None:
    inferences = [
        NewInference(engine="engine", quantities={"executions": count}) for count in (4, 3, 5)
    ]
    debit(shop, [run_of("r", inferences=inferences)])
    fail(account_id, "r", "customer", **used)
    assert receipt(account_id, "r").microtokens == stays
    assert out(account_id) == stays
    assert usage()["rework_microtokens"] == usage()["microtokens"] == stays
    assert usage()["rework_micros"] == usage()["micros"] == stays * 10


def test_no_more_stays_than_the_run_costs_and_inferences_are_its_own(shop, account_id) -> None:
    debit(shop, [run_of("r")])
    with pytest.raises(MoreThanIsLeft):
        fail(account_id, "r", "customer", used_microtokens=8)
    with pytest.raises(UnknownInference):
        fail(account_id, "r", "customer", used_inferences=[1])
    assert receipt(account_id, "r").version == 1


def test_a_failure_is_told_once_but_the_customers_fault_may_turn_out_to_be_the_vendors(
    shop, account_id
) -> None:
    debit(shop, [run_of("r")])
    first = fail(account_id, "r", "customer", key="k")
    assert fail(account_id, "r", "customer", key="k") == first
    with pytest.raises(OutcomeKnown):
        fail(account_id, "r", "customer")
    fail(account_id, "r", "vendor")
    for fault in ("vendor", "customer"):
        with pytest.raises(OutcomeKnown):
            fail(account_id, "r", fault)
    assert (receipt(account_id, "r").version, receipt(account_id, "r").microtokens) == (3, 0)
    assert counts() == (1, 0, 1, 0)


def test_a_retake_marks_the_run_that_it_does_again(shop, account_id) -> None:
    debit(shop, [run_of("r")])
    debit(shop, [run_of("again", 5, retake_of="r")])
    retaken, again = receipt(account_id, "r"), receipt(account_id, "again")
    assert (retaken.version, retaken.outcome, retaken.retaken_by) == (2, "retaken", "again")
    assert (again.version, again.outcome, again.retake_of) == (1, "accepted", "r")
    assert [one.kind for one in retaken.corrections] == ["retaken"]
    assert (retaken.microtokens, out(account_id)) == (7, 12)
    assert counts() == (2, 0, 0, 1)
    assert (usage()["rework_microtokens"], usage()["rework_micros"]) == (7, 70)


def test_a_retake_may_stand_in_one_batch_with_the_run_in_either_order(shop, account_id) -> None:
    debit(
        shop, [run_of("a"), run_of("a2", retake_of="a"), run_of("b2", retake_of="b"), run_of("b")]
    )
    assert [receipt(account_id, run_id).outcome for run_id in ("a", "b")] == ["retaken"] * 2


def test_a_run_that_comes_after_its_retake_is_marked_by_the_sweep_once(shop, account_id) -> None:
    debit(shop, [run_of("again", retake_of="r")])
    assert retakes.mark_waiting(at=LATER) == 0
    debit(shop, [run_of("r")])
    assert receipt(account_id, "r").outcome == "accepted"
    assert retakes.mark_waiting(at=LATER) == 1
    assert retakes.mark_waiting(at=LATER) == 0
    assert receipt(account_id, "r").outcome == "retaken"
    assert Correction.objects.count() == 1


def test_a_run_is_marked_once_however_many_retake_it(shop, account_id) -> None:
    debit(shop, [run_of("r")])
    debit(shop, [run_of("x", retake_of="r"), run_of("y", retake_of="r")])
    debit(shop, [run_of("z", retake_of="r")])
    found = receipt(account_id, "r")
    assert (found.version, found.retaken_by) == (2, "x")
    assert Retake.objects.filter(marked_at__isnull=True).count() == 0
    assert counts() == (4, 0, 0, 3)


def test_a_retake_that_fails_or_is_done_again_was_never_accepted_first(shop, account_id) -> None:
    debit(shop, [run_of("r"), run_of("x", retake_of="r"), run_of("y", retake_of="x")])
    assert counts() == (3, 0, 0, 2)
    fail(account_id, "y", "customer")
    assert counts() == (3, 0, 1, 2)


def test_a_retake_sent_twice_marks_once(shop, account_id) -> None:
    debit(shop, [run_of("r")])
    for _ in range(2):
        debit(shop, [run_of("again", retake_of="r")])
    assert receipt(account_id, "r").version == 2


def test_a_retake_of_nothing_is_debited_all_the_same(shop, account_id) -> None:
    debit(shop, [run_of("again", retake_of="nobody")])
    assert receipt(account_id, "again").retake_of == "nobody"
    assert retakes.mark_waiting(at=LATER) == 0


def test_a_retake_of_another_accounts_run_marks_nothing(shop, account_id) -> None:
    other_id = make_account(shop, "other")
    debit(shop, [run_of("r", account="other"), run_of("again", retake_of="r")])
    assert receipt(other_id, "r").outcome == "accepted"


def test_what_failed_and_is_done_again_has_still_failed(shop, account_id) -> None:
    debit(shop, [run_of("r", outcome="failed", fault="customer")])
    debit(shop, [run_of("again", retake_of="r")])
    found = receipt(account_id, "r")
    assert (found.outcome, found.fault, found.retaken_by) == ("failed", "customer", "again")
    assert usage()["rework_microtokens"] == 7


def test_a_void_of_a_retaken_run_makes_less_rework(shop, account_id) -> None:
    debit(shop, [run_of("r"), run_of("again", retake_of="r")])
    corrections.void(
        account=accounts.account(account_id=account_id),
        run_id="r",
        microtokens=3,
        reason="",
        idempotency_key="k",
        at=LATER,
    )
    assert (usage()["microtokens"], usage()["rework_microtokens"]) == (11, 4)
    assert (receipt(account_id, "r").version, receipt(account_id, "r").outcome) == (3, "retaken")


def test_a_parked_run_says_how_it_came_out_when_it_is_priced(shop, account_id) -> None:
    catalog.create_meter(book_id=shop.book_id, code="rows", name="Rows")
    by_rows = [NewInference(engine="engine", quantities={"rows": 3})]
    debit(shop, [run_of("r")])
    accept(
        shop,
        [
            run_of("failed", outcome="failed", fault="vendor", inferences=by_rows),
            run_of("again", retake_of="r", inferences=by_rows),
        ],
    )
    publish_rates(shop, [*RATES, catalog.NewRate(meter="rows", microtokens=2)], effective_at=NOON)
    for shard in parking.price_parked(at=LATER):
        debiting.drain_shard(shard=shard, at=LATER)
    assert (receipt(account_id, "failed").outcome, receipt(account_id, "failed").microtokens) == (
        "failed",
        0,
    )
    assert receipt(account_id, "again").microtokens == 6
    assert receipt(account_id, "r").outcome == "retaken"
