"""Taking runs in: both ways of checking, several submissions at once, and what is remembered."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from hypothesis import given
from hypothesis import strategies as st

from ledger import catalog, checking, debiting, faults, intake, prices, sql
from ledger.accounts import find_all
from ledger.catalog import NewRate
from ledger.errors import InvalidRuns
from ledger.familiar import Familiar
from ledger.instants import to_us
from ledger.intake import NewInference, NewPart, NewRun, Submitted
from ledger.models import Account, Batch, Standing
from tests.ledger.builders import (
    A_MICROSECOND,
    HOUR,
    NOON,
    accept,
    make_account,
    make_run,
    make_shop,
    publish_rates,
)

LATER = NOON + HOUR


def run(**changed) -> NewRun:
    facts: dict[str, Any] = {
        "id": "run-1",
        "account": "acme",
        "workflow": "review",
        "occurred_at": NOON,
        "inferences": [NewInference("engine", {"executions": 3})],
    }
    return NewRun(**facts | changed)


def checked(shop, runs, *, in_full: bool):
    """Runs as they are checked; `in_full` none goes the short way."""
    book = prices.of_book(shop.book_id)
    accounts = find_all(book_id=shop.book_id, codes=["acme"])
    found = checking.Checked(
        book, Familiar(book.revision), accounts, *faults.bounds_us(to_us(NOON))
    )
    if in_full:
        for position, one in enumerate(runs):
            assert found._look_closer(position, one) == []
    else:
        assert all(found._add(one) for one in runs)
    return found


PLAIN = [
    run(),
    run(id="0198f1a2-7c3d-7e4f-8a9b-0123456789ab", actor="maria", cost_centre="own"),
    run(outcome="failed", fault="vendor"),
    run(outcome="failed", fault="customer", retake_of="run-0"),
    run(part=NewPart("step-1")),
    run(part=NewPart("step-2", last=True)),
    run(inferences=[NewInference("engine", {"executions": n}) for n in (1, 2)]),
    run(
        inferences=[
            NewInference("engine", {"executions": 1}, NOON - HOUR),
            NewInference("other", {"executions": 2}),
        ]
    ),
]


def test_the_short_way_comes_to_what_the_long_way_does(shop):
    catalog.create_engine(book_id=shop.book_id, code="other", name="Other")
    make_account(shop)
    short = checked(shop, PLAIN, in_full=False)
    long = checked(shop, PLAIN, in_full=True)
    assert short.priced == long.priced
    assert short.costs == long.costs
    assert short.new_bearers == long.new_bearers


@pytest.fixture
def shop_of_meters(db):
    """Whole and broken rates, a part with its own, a block, a minimum, a later version."""
    shop = make_shop()
    for engine in ("other", "dear"):
        catalog.create_engine(book_id=shop.book_id, code=engine, name=engine)
    for meter, whole in (("input", None), ("cached", "input"), ("pages", None), ("calls", None)):
        catalog.create_meter(book_id=shop.book_id, code=meter, name=meter, part_of=whole)
    rates = [
        NewRate(meter="executions", microtokens=2),
        NewRate(meter="input", microtokens=3, per_quantity=2),
        NewRate(meter="input", microtokens=4, engine="other"),
        NewRate(meter="cached", microtokens=1, engine="other"),
        NewRate(meter="pages", microtokens=5, block_quantity=3),
        NewRate(meter="calls", microtokens=1, minimum_microtokens=9),
        NewRate(meter="calls", microtokens=1, engine="other"),
        NewRate(meter="executions", microtokens=10**14, engine="dear"),
    ]
    publish_rates(shop, rates, effective_at=NOON - 30 * HOUR)
    publish_rates(shop, [*rates[1:], NewRate(meter="executions", microtokens=7)], effective_at=NOON)
    make_account(shop)
    return shop


# Small worlds, so that what is unusual meets: unknown names, shares larger than their whole, runs
# that cost too much or have no price, and times at which prices change or that are not taken.
times = st.sampled_from([NOON, NOON - HOUR, NOON - A_MICROSECOND, NOON + HOUR]) | st.sampled_from(
    [NOON - 31 * HOUR, NOON - 4000 * 24 * HOUR]
)
reported_inferences = st.builds(
    NewInference,
    engine=st.sampled_from(["engine", "engine", "other", "other", "dear", "unknown"]),
    quantities=st.dictionaries(
        st.sampled_from(["executions", "executions", "input", "cached", "pages", "calls", "rows"]),
        st.integers(0, 4),
        min_size=1,
        max_size=3,
    ),
    occurred_at=st.none() | times,
)
reported_runs = st.builds(
    NewRun,
    id=st.sampled_from(["r-1", "r-2", "0198f1a2-7c3d-7e4f-8a9b-0123456789ab", "r\x00"]),
    account=st.sampled_from(["acme", "acme", "acme", "nobody"]),
    workflow=st.sampled_from(["review", "other"]),
    occurred_at=times,
    inferences=st.lists(reported_inferences, min_size=1, max_size=3),
    actor=st.sampled_from(["", "maria"]),
    outcome=st.sampled_from(["accepted", "accepted", "failed"]),
    fault=st.sampled_from(["", "", "vendor", "customer"]),
    retake_of=st.sampled_from(["", "", "r-1"]),
    part=st.none() | st.builds(NewPart, id=st.sampled_from(["p", "p\x00"]), last=st.booleans()),
)


@given(sent=reported_runs)
def test_whatever_the_short_way_takes_the_long_way_takes_alike(shop_of_meters, sent):
    book = prices.of_book(shop_of_meters.book_id)
    accounts = find_all(book_id=shop_of_meters.book_id, codes=["acme"])
    short, long = (
        checking.Checked(book, Familiar(book.revision), accounts, *faults.bounds_us(to_us(NOON)))
        for _ in range(2)
    )
    is_taken = short._add(sent)
    found = long._look_closer(0, sent)
    if is_taken:
        assert found == []
        assert (short.costs, short.priced) == (long.costs, long.priced)
        assert short.new_bearers == long.new_bearers
    else:
        assert (short.costs, short.priced) == ([], []), "nothing has been done"
        assert found or long.parked or long.priced


@pytest.mark.parametrize(
    ("faulty", "field", "rule"),
    [
        (run(id="a\x00b"), "runs[1]", "text"),
        (run(retake_of="a\x00b"), "runs[1]", "text"),
        (run(part=NewPart("a\x00b")), "runs[1]", "text"),
        (run(actor="a\x00b"), "runs[1]", "text"),
        (run(account="ac\x00me"), "runs[1].account", "unknown_account"),
        (run(retake_of="run-1"), "runs[1].retake_of", "retake_of_itself"),
        (run(fault="vendor"), "runs[1].fault", "fault_of_failed"),
        (run(occurred_at=NOON + timedelta(hours=2)), "runs[1].occurred_at", "in_the_future"),
    ],
)
def test_a_faulty_run_among_good_ones_is_named_and_nothing_is_taken(shop, faulty, field, rule):
    make_account(shop)
    with pytest.raises(InvalidRuns) as refused:
        accept(shop, [make_run(), faulty], at=LATER)
    assert [(fault.field, fault.rule) for fault in refused.value.faults] == [(field, rule)]
    assert not Batch.objects.exists()


def test_of_very_many_faulty_runs_the_first_twenty_are_named(shop):
    with pytest.raises(InvalidRuns) as refused:
        accept(shop, [make_run(account="nobody") for _ in range(30)])
    assert [fault.field for fault in refused.value.faults] == [
        f"runs[{position}].account" for position in range(20)
    ]


def test_submissions_taken_together_are_each_for_themselves(db):
    shop, other = make_shop(), make_shop()
    account_id = make_account(shop)
    make_account(other, "globex")
    taken = intake.accept_each(
        submissions=[
            Submitted(book_id=shop.book_id, runs=[make_run(3), make_run(4)]),
            Submitted(book_id=shop.book_id, runs=[make_run(account="globex")]),
            Submitted(book_id=other.book_id, runs=[make_run(5, account="globex")]),
            Submitted(book_id=shop.book_id, runs=[]),
        ],
        at=LATER,
    )
    first, foreign, third, empty = taken
    assert isinstance(foreign, InvalidRuns)
    assert isinstance(empty, InvalidRuns)
    assert isinstance(first, intake.Accepted)
    assert isinstance(third, intake.Accepted)
    assert [run.microtokens for run in first.runs] == [3, 4]
    assert [run.microtokens for run in third.runs] == [5]
    assert set(Batch.objects.values_list("id", "book_id", "runs_count")) == {
        (first.batch_id, shop.book_id, 2),
        (third.batch_id, other.book_id, 1),
    }
    assert debiting.drain_all(at=LATER) == 3
    assert Standing.objects.get(account_id=account_id).runs_count == 2


def test_an_account_that_was_rolled_back_is_not_remembered(transactional_db, shop):
    with transaction.atomic():
        make_account(shop)
        accept(shop, [make_run()])
        transaction.set_rollback(True)
    with pytest.raises(InvalidRuns):
        accept(shop, [make_run()])


def test_what_has_changed_in_a_book_counts_from_the_next_run_on(transactional_db, shop, account_id):
    for _ in range(2):
        assert accept(shop, [make_run(3)]).runs[0].microtokens == 3
    with transaction.atomic():
        dearer = publish_rates(shop, [catalog.NewRate(meter="executions", microtokens=7)])
        Account.objects.filter(id=account_id).update(rate_card_id=dearer)
        catalog.changed(book_id=shop.book_id)
    assert accept(shop, [make_run(3)]).runs[0].microtokens == 21


def test_the_oldest_intake_of_a_shard_that_waits_is_known(shop):
    shard = make_account(shop) & 255

    def oldest() -> dict[int, int]:
        return dict(sql.rows("oldest_waiting", shards=[shard, (shard + 1) % 256]))

    first, _ = accept(shop, [make_run()]), accept(shop, [make_run()])
    assert oldest() == first.intakes
    debiting.drain_all(at=LATER)
    assert oldest() == {}
    assert accept(shop, [make_run()]).intakes == oldest()
