"""Exactly once: the same run again, another run under its id, and what the batch's result says."""

import uuid
from datetime import timedelta, timezone

import pytest

from ledger import accounts, catalog, debiting, queries, receipts, tasks, units
from ledger.errors import IdempotencyKeyReused, InvalidRuns, UnknownAccount
from ledger.intake import RUNS_PER_BATCH_MAX, NewInference, NewRun
from ledger.models import Batch, Block, Conflict, Intake, Run, Submission
from ledger.packing import unpack_details
from ledger.units import shard_of
from tests.ledger.builders import (
    HOUR,
    NOON,
    accept,
    debit,
    drain,
    make_account,
    make_lot,
    make_run,
)


@pytest.fixture
def account_id(shop) -> int:
    account_id = make_account(shop)
    make_lot(account_id, 100)
    return account_id


def out(account_id: int) -> int:
    return sum(lot.out_microtokens for lot in queries.lots(account_ids=[account_id]))


def statuses(shop, accepted) -> list[tuple[str, str]]:
    results = receipts.of_batch(book_id=shop.book_id, batch_id=accepted.batch_id)
    return [(one.run_id, one.status) for one in results]


def test_the_same_run_again_is_debited_once_and_answered_the_same(shop, account_id) -> None:
    run = make_run(7, run_id="r")
    first, again = debit(shop, [run]), debit(shop, [run])
    assert out(account_id) == 7
    assert first.runs == again.runs
    [one] = receipts.of_batch(book_id=shop.book_id, batch_id=first.batch_id)
    [other] = receipts.of_batch(book_id=shop.book_id, batch_id=again.batch_id)
    assert one == other
    assert one.status == "debited"


def test_the_same_run_twice_in_a_batch_is_debited_once(shop, account_id) -> None:
    accepted = debit(shop, [make_run(7, run_id="r"), make_run(7, run_id="r")])
    assert out(account_id) == 7
    assert statuses(shop, accepted) == [("r", "debited"), ("r", "debited")]


def test_another_run_under_a_taken_id_is_a_conflict_in_its_batchs_result(shop, account_id) -> None:
    debit(shop, [make_run(7, run_id="r")])
    accepted = debit(shop, [make_run(1, run_id="new"), make_run(8, run_id="r")])
    assert out(account_id) == 8
    assert statuses(shop, accepted) == [("new", "debited"), ("r", "conflict")]
    assert Conflict.objects.get().submission_position == 1


def test_two_runs_under_one_id_in_a_batch_are_one_run_and_a_conflict(shop, account_id) -> None:
    accepted = debit(shop, [make_run(7, run_id="r"), make_run(8, run_id="r")])
    assert out(account_id) == 7
    assert statuses(shop, accepted) == [("r", "debited"), ("r", "conflict")]


@pytest.mark.parametrize(
    "other",
    [
        {"executions": 6},
        {"at": NOON + HOUR},
        {"cost_centre": "law"},
        {"workflow": "translate"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_whatever_differs_in_its_body_makes_it_another_run(shop, account_id, other) -> None:
    debit(shop, [make_run(5, run_id="r")])
    debit(shop, [make_run(**{"executions": 5} | other, run_id="r")])
    assert Conflict.objects.count() == 1
    assert out(account_id) == 5


def test_the_same_instant_in_another_zone_is_the_same_body(shop, account_id) -> None:
    debit(shop, [make_run(5, run_id="r", at=NOON)])
    debit(shop, [make_run(5, run_id="r", at=NOON.astimezone(timezone(timedelta(hours=9))))])
    assert not Conflict.objects.exists()
    assert out(account_id) == 5


def test_an_id_is_unique_in_its_account_only(shop, account_id) -> None:
    make_account(shop, "other")
    debit(shop, [make_run(5, run_id="r"), make_run(6, run_id="r", account="other")])
    assert Run.objects.count() == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("A" * 8 + "-1111-1111-1111-" + "A" * 12, "a" * 8 + "-1111-1111-1111-" + "a" * 12),
        ("a" * 8 + "-1111-1111-1111-" + "a" * 12, "a" * 9 + "-111-1111-1111-" + "a" * 12),
        ("r", "R"),
        ("r", "r "),
    ],
)
def test_two_spellings_are_two_ids(shop, account_id, one: str, other: str) -> None:
    debit(shop, [make_run(5, run_id=one), make_run(5, run_id=other)])
    assert Run.objects.count() == 2


def test_a_canonical_uuid_is_its_own_key() -> None:
    key = uuid.UUID("01890a5d-ac96-774b-bcce-b302099a8057")
    assert units.run_key(str(key)) == key
    assert units.run_key("run 1").version == 8


def test_runs_of_one_account_wait_in_order_of_arrival(shop, account_id) -> None:
    for executions in (1, 2, 3):
        accept(shop, [make_run(executions, run_id=f"r{executions}")])
    assert drain(account_id) == 3
    lines = queries.runs(account_id=account_id, runs_max=9)
    assert [(line.sequence, line.run_id) for line in lines] == [(3, "r3"), (2, "r2"), (1, "r1")]


def test_a_run_without_a_cost_centre_takes_its_workflows_else_its_accounts(shop, db) -> None:
    catalog.create_workflow(
        book_id=shop.book_id, code="review", name="Review", default_cost_centre="law"
    )
    account_id = make_account(shop, default_cost_centre="sales")
    debit(
        shop,
        [
            make_run(1, run_id="own", cost_centre="own"),
            make_run(1, run_id="workflow's"),
            make_run(1, run_id="account's", workflow="translate"),
        ],
    )
    lines = queries.runs(account_id=account_id, runs_max=9)
    assert [line.cost_centre for line in lines] == ["sales", "law", "own"]


def test_a_run_with_no_cost_centre_anywhere_is_refused(shop) -> None:
    make_account(shop, default_cost_centre="")
    with pytest.raises(InvalidRuns) as refusal:
        accept(shop, [make_run(1, cost_centre="law"), make_run(1)])
    [fault] = refusal.value.faults
    assert (fault.field, fault.rule) == ("runs[1].cost_centre", "cost_centre_missing")
    assert not Batch.objects.exists()


def inference(engine="engine", at=None, **quantities: int) -> NewInference:
    return NewInference(engine=engine, quantities=quantities, occurred_at=at)


def run_of(*inferences: NewInference, account="acme", at=NOON, run_id="r") -> NewRun:
    return NewRun(
        id=run_id, account=account, workflow="w", occurred_at=at, inferences=list(inferences)
    )


NOW = NOON + 500 * HOUR
FAULTS = {
    "unknown account": (run_of(inference(executions=1), account="nobody"), "account"),
    "unknown engine": (run_of(inference(engine="x", executions=1)), "inferences[0].engine"),
    "unknown meter": (run_of(inference(rows=1)), "inferences[0].quantities"),
    "in the future": (run_of(inference(executions=1), at=NOW + HOUR), "occurred_at"),
    "too old": (run_of(inference(executions=1), at=NOW - 24 * 3654 * HOUR), "occurred_at"),
    "an inference in the future": (
        run_of(inference(executions=1, at=NOW + HOUR)),
        "inferences[0].occurred_at",
    ),
    "a NUL": (run_of(inference(executions=1), run_id="a\x00b"), ""),
}


@pytest.mark.parametrize(("run", "field"), FAULTS.values(), ids=FAULTS.keys())
def test_a_submission_that_breaks_a_rule_names_it_and_changes_nothing(
    shop, account_id, run, field
) -> None:
    with pytest.raises(InvalidRuns) as refusal:
        accept(shop, [make_run(1), run], at=NOW)
    assert [fault.field for fault in refusal.value.faults] == [f"runs[1].{field}".rstrip(".")]
    assert not Batch.objects.exists()
    assert not Submission.objects.exists()


@pytest.mark.parametrize("count", [0, 10_001])
def test_a_batch_has_1_to_10_000_runs(shop, account_id, count: int) -> None:
    with pytest.raises(InvalidRuns) as refusal:
        accept(shop, [make_run(1, run_id="r")] * count)
    assert refusal.value.faults[0].rule == "runs_count"


def test_a_run_that_costs_too_much_is_refused(shop, account_id) -> None:
    accept(shop, [make_run(units.RUN_MICROTOKENS_MAX // 100)])
    with pytest.raises(InvalidRuns) as refusal:
        accept(shop, [make_run(units.RUN_MICROTOKENS_MAX + 1)])
    assert refusal.value.faults[0].rule == "cost_too_large"


def test_a_part_is_never_more_than_its_whole(shop, account_id) -> None:
    catalog.create_meter(book_id=shop.book_id, code="cached", name="Cached", part_of="executions")
    accept(shop, [run_of(inference(executions=3, cached=3))])
    for used in ({"executions": 3, "cached": 4}, {"cached": 1}):
        with pytest.raises(InvalidRuns) as refusal:
            accept(shop, [run_of(inference(**used))])
        assert refusal.value.faults[0].rule == "part_exceeds_whole"


def test_the_details_of_a_run_are_kept(shop, account_id) -> None:
    debit(shop, [run_of(inference(executions=2), inference(executions=3, at=NOON + HOUR))])
    submission = Submission.objects.get()
    [details] = unpack_details(bytes(submission.details), 1, [0])
    assert details.run_id == "r"
    assert [one.microtokens for one in details.inferences] == [2, 3]
    assert [one.quantities for one in details.inferences] == [{"executions": 2}, {"executions": 3}]


def test_a_grant_is_done_once_under_its_key(shop, account_id) -> None:
    first = make_lot(account_id, 5, key="grant", hours=5)
    assert make_lot(account_id, 5, key="grant", hours=5, at=NOON + HOUR) == first
    for microtokens, hours in ((6, 5), (5, 6)):
        with pytest.raises(IdempotencyKeyReused):
            make_lot(account_id, microtokens, hours=hours, key="grant")
    assert len(queries.lots(account_ids=[account_id])) == 3


def test_a_key_is_an_accounts_own(shop, account_id) -> None:
    other = make_account(shop, "other")
    assert make_lot(account_id, 5, key="grant") != make_lot(other, 5, key="grant")


def test_a_grant_needs_an_account(shop) -> None:
    with pytest.raises(UnknownAccount):
        make_lot(12345 * 256 + 7, 5)


def test_a_shard_that_fails_keeps_none_of_the_others_from_being_debited(shop) -> None:
    by_shard = {shard_of(one): one for one in (make_account(shop, f"a{n}") for n in range(6))}
    for account_id in by_shard.values():
        make_lot(account_id, 10)
    accept(
        shop,
        [make_run(1, account=accounts.account(account_id=one).code) for one in by_shard.values()],
    )
    first = min(by_shard)
    packed = Intake.objects.get(shard=first).runs
    Intake.objects.filter(shard=first).update(runs=b"not runs")
    with pytest.raises(ValueError, match="buffer size"):
        tasks.debit_shards(sorted(by_shard))
    assert set(Run.objects.values_list("shard", flat=True)) == set(by_shard) - {first}
    Intake.objects.filter(shard=first).update(runs=packed)
    tasks.debit_shards([first])
    assert Run.objects.count() == len(by_shard)


def test_a_block_is_never_older_than_the_one_before_it(shop) -> None:
    account_id = make_account(shop)
    make_lot(account_id, 10)
    for at in (NOON + 2 * HOUR, NOON + HOUR, NOON + 3 * HOUR):
        accept(shop, [make_run(1)], at=NOON)
        drain(account_id, at=at)
    assert list(Block.objects.order_by("number").values_list("recorded_at", flat=True)) == [
        NOON + 2 * HOUR,
        NOON + 2 * HOUR,
        NOON + 3 * HOUR,
    ]


def test_what_is_left_of_a_shard_after_a_block_is_known_by_its_size() -> None:
    """`Drained.is_full` takes every intake for half a block at most."""
    assert RUNS_PER_BATCH_MAX <= debiting.RUNS_PER_BLOCK_MAX // 2
