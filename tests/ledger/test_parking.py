"""A run that no rate prices is parked, never priced at 0, and priced later at its own time."""

import pytest
import structlog
from msgspec.structs import replace

from ledger import catalog, debiting, parking, queries, receipts
from ledger.catalog import NewRate
from ledger.intake import NewInference, NewRun
from ledger.models import Meter
from tests.ledger.builders import (
    HOUR,
    NOON,
    RATES,
    Shop,
    accept,
    make_account,
    make_lot,
    make_run,
    make_shop,
    publish_rates,
)

ROWS = "meter 'rows' and engine 'engine-2026-05' in workflow 'review'"


@pytest.fixture
def shop(db: None) -> Shop:
    shop = make_shop()
    catalog.create_engine(book_id=shop.book_id, code="engine-2026-05", name="Dated")
    catalog.create_meter(book_id=shop.book_id, code="rows", name="Rows")
    return shop


@pytest.fixture
def account_id(shop) -> int:
    account_id = make_account(shop)
    make_lot(account_id, 1_000)
    return account_id


def run_by_rows(rows: int, run_id: str = "r", account: str = "acme") -> NewRun:
    return NewRun(
        id=run_id,
        account=account,
        workflow="review",
        occurred_at=NOON,
        inferences=[NewInference(engine="engine-2026-05", quantities={"rows": rows})],
    )


def result(shop, accepted) -> str:
    [one] = receipts.of_batch(book_id=shop.book_id, batch_id=accepted.batch_id)
    return one.status


def price_and_debit() -> int:
    shards = parking.price_parked(at=NOON + 600 * HOUR)
    return sum(debiting.drain_shard(shard=shard, at=NOON + 600 * HOUR) for shard in shards)


def test_an_unpriced_run_is_parked_and_debited_at_the_rate_of_its_own_time(shop, account_id):
    accepted = accept(shop, [run_by_rows(7)])
    assert accepted.runs[0].microtokens is None
    assert accepted.runs[0].unpriced_reason == f"no rate for {ROWS}"
    assert result(shop, accepted) == "unpriced"
    assert [one.run.id for one in parking.waiting(account_ids=[account_id])] == ["r"]
    assert price_and_debit() == 0

    row = NewRate(meter="rows", microtokens=2)
    dearer = NewRate(meter="rows", microtokens=50)
    publish_rates(shop, [*RATES, dearer], effective_at=NOON + HOUR)
    assert price_and_debit() == 0
    publish_rates(shop, [*RATES, row], effective_at=NOON)
    assert price_and_debit() == 1
    assert price_and_debit() == 0
    assert queries.balances(account_ids=[account_id], at=NOON)[
        account_id
    ].available_microtokens == (1_000 - 7 * 2)
    assert result(shop, accepted) == "debited"
    assert parking.waiting(account_ids=[account_id]) == []


def test_what_was_tried_in_vain_is_tried_again_after_the_very_next_change(shop, account_id) -> None:
    accept(shop, [run_by_rows(7)])
    assert price_and_debit() == 0
    publish_rates(shop, [*RATES, NewRate(meter="rows", microtokens=2)], effective_at=NOON)
    assert price_and_debit() == 1


def test_a_run_before_the_first_version_waits(shop, account_id) -> None:
    accepted = accept(shop, [make_run(1, at=NOON - 24 * 366 * HOUR)])
    assert result(shop, accepted) == "unpriced"


def results(shop, accepted) -> list[str]:
    found = receipts.of_batch(book_id=shop.book_id, batch_id=accepted.batch_id)
    return [one.status for one in found]


def test_an_unpriced_run_sent_again_is_told_of_in_each_batch_and_debited_once(
    shop, account_id
) -> None:
    first = accept(shop, [run_by_rows(7)])
    again = accept(shop, [run_by_rows(7), run_by_rows(7)])
    assert results(shop, first) == ["unpriced"]
    assert results(shop, again) == ["unpriced", "unpriced"]
    publish_rates(shop, [*RATES, NewRate(meter="rows", microtokens=2)], effective_at=NOON)
    assert price_and_debit() == 1
    assert results(shop, first) == ["debited"]
    assert results(shop, again) == ["debited", "debited"]


def test_of_two_bodies_parked_under_one_id_the_first_is_debited_and_the_other_told(
    shop, account_id
) -> None:
    first = accept(shop, [run_by_rows(7)], at=NOON + 500 * HOUR)
    other = accept(shop, [run_by_rows(8)], at=NOON + 501 * HOUR)
    publish_rates(shop, [*RATES, NewRate(meter="rows", microtokens=2)], effective_at=NOON)
    assert price_and_debit() == 1
    assert results(shop, first) == ["debited"]
    assert results(shop, other) == ["conflict"]


def test_a_parked_run_whose_id_was_debited_with_another_body_meanwhile_is_a_conflict(
    shop, account_id
) -> None:
    parked = accept(shop, [run_by_rows(7)])
    debited = accept(shop, [make_run(3, run_id="r")])
    assert debiting.drain_all(at=NOON) == 1
    late = accept(shop, [run_by_rows(7)])
    assert results(shop, debited) == ["debited"]
    assert results(shop, parked) == results(shop, late) == ["conflict"]
    publish_rates(shop, [*RATES, NewRate(meter="rows", microtokens=2)], effective_at=NOON)
    assert price_and_debit() == 0
    assert results(shop, parked) == ["conflict"]


def test_a_run_sent_again_once_it_has_a_price_is_debited_once(shop, account_id) -> None:
    accept(shop, [run_by_rows(7)])
    publish_rates(shop, [*RATES, NewRate(meter="rows", microtokens=2)], effective_at=NOON)
    again = accept(shop, [run_by_rows(7)])
    assert again.runs[0].microtokens == 14
    assert debiting.drain_all(at=NOON) == 1
    assert price_and_debit() == 0
    assert parking.waiting(account_ids=[account_id]) == []


def test_what_cannot_be_priced_does_not_stand_in_the_way_of_what_can(
    shop, account_id, monkeypatch
) -> None:
    """However many old runs of one book wait for ever, another book's are found."""
    monkeypatch.setattr(parking, "PARKED_PER_SWEEP_MAX", 20)
    accept(shop, [run_by_rows(1, run_id=f"r{n}") for n in range(parking.PARKED_PER_SWEEP_MAX)])
    assert parking.price_parked(at=NOON) == []
    other = make_shop()
    make_account(other, "other")
    catalog.create_meter(book_id=other.book_id, code="rows", name="Rows")
    catalog.create_engine(book_id=other.book_id, code="engine-2026-05", name="Dated")
    accept(other, [run_by_rows(1, account="other")], at=NOON + 501 * HOUR)
    publish_rates(other, [*RATES, NewRate(meter="rows", microtokens=2)], effective_at=NOON)
    assert price_and_debit() == 1


def test_whoever_sets_prices_is_told_how_many_wait_since_when_and_why(shop, account_id) -> None:
    assert parking.waits() == []
    make_account(shop, "globex")
    plainly = replace(run_by_rows(1, "p"), inferences=[NewInference("engine", {"rows": 1})])
    first_at, then_at = NOON + 500 * HOUR, NOON + 501 * HOUR
    accept(shop, [run_by_rows(7), run_by_rows(7), make_run(1)], at=first_at)
    earlier = replace(run_by_rows(7, "g", "globex"), occurred_at=NOON - HOUR)
    accept(shop, [run_by_rows(7), earlier, plainly], at=then_at)
    dated, plain = parking.waits(book_ids=[shop.book_id])
    assert dated.reason == f"no rate for {ROWS}"
    assert (dated.rate_card_id, dated.rate_card) == (shop.rate_card_id, "Standard")
    assert (dated.runs_count, dated.since, dated.earliest_at) == (2, first_at, NOON - HOUR)
    assert "'Standard'" in dated.remedy
    assert "2026-06-15 11:00 UTC" in dated.remedy
    assert (plain.runs_count, plain.since) == (1, then_at)
    assert parking.waits() == [dated, plain]
    assert parking.waits(book_ids=[shop.book_id + 1]) == []
    by_account = parking.waits_of_accounts(account_ids=[account_id])
    assert [one.runs_count for one in by_account[account_id]] == [1, 1]
    publish_rates(shop, [*RATES, NewRate(meter="rows", microtokens=2)], effective_at=NOON - HOUR)
    assert price_and_debit() == 4, "with the run that had its price at once"
    assert parking.waits() == []


def test_what_is_told_is_why_a_run_waits_now(shop, account_id) -> None:
    """Of two prices that were missing one has come: now the other is named."""
    catalog.create_meter(book_id=shop.book_id, code="pages", name="Pages")
    run = replace(
        run_by_rows(1),
        inferences=[NewInference(engine="engine", quantities={"rows": 1, "pages": 1})],
    )
    accept(shop, [run])
    assert "'rows'" in parking.waits()[0].reason
    publish_rates(shop, [*RATES, NewRate(meter="rows", microtokens=2)], effective_at=NOON)
    assert price_and_debit() == 0
    [wait] = parking.waits()
    assert "'pages'" in wait.reason
    Meter.objects.filter(code="pages").delete()
    catalog.changed(book_id=shop.book_id)
    assert price_and_debit() == 0
    [wait] = parking.waits()
    assert "pages" in wait.reason
    assert "inferences[0]" in wait.reason


def test_a_batch_that_waits_is_logged_once_with_reasons_and_without_names(
    shop, account_id, django_capture_on_commit_callbacks
) -> None:
    with structlog.testing.capture_logs() as logged:
        with django_capture_on_commit_callbacks(execute=True):
            runs = [replace(run_by_rows(7, f"r{n}"), actor="Ada Lovelace") for n in range(3)]
            accepted = accept(shop, [*runs, make_run(1)])
        with django_capture_on_commit_callbacks(execute=True):
            assert price_and_debit() == 0
            catalog.changed(book_id=shop.book_id)
            assert price_and_debit() == 0
    assert logged == [
        {
            "event": "runs wait for a price",
            "log_level": "warning",
            "book_id": shop.book_id,
            "batch_id": str(accepted.batch_id),
            "runs_count": 3,
            "reasons": {f"no rate for {ROWS}": 3},
        }
    ]


def test_zero_of_a_priced_meter_costs_nothing_and_is_a_run_all_the_same(shop, account_id) -> None:
    accepted = accept(shop, [make_run(0)])
    assert accepted.runs[0].microtokens == 0
    assert debiting.drain_all(at=NOON) == 1
    [line] = queries.runs(account_id=account_id, runs_max=9)
    assert (line.sequence, line.microtokens) == (1, 0)
