"""A lot that ends sooner: no run draws on it from then on, and none that drew on it is touched."""

from datetime import timedelta

import pytest

from ledger import endings, grants, queries
from ledger.errors import IdempotencyKeyReused
from ledger.models import Lot
from tests.ledger.builders import HOUR, NOON, debit, make_account, make_lot, make_run, make_shop

MOMENT = timedelta(microseconds=1)


@pytest.fixture
def shop(db):
    return make_shop()


@pytest.fixture
def account_id(shop):
    return make_account(shop)


def end(account_id, lot_ids, ends_at, *, key="end"):
    return endings.end_lots(
        account_id=account_id,
        lot_ids=lot_ids,
        ends_at=ends_at,
        idempotency_key=key,
        at=NOON,
    )


def remaining(account_id):
    lots = queries.lots(account_ids=[account_id])
    return [lot.remaining_microtokens for lot in lots if lot.kind == "prepaid"]


def test_from_then_on_no_run_draws_on_it_also_in_a_worker_that_remembers_it(shop, account_id):
    lot_id = make_lot(account_id, 10, hours=9, grace_hours=2)
    debit(shop, [make_run(2)])
    assert end(account_id, [lot_id], NOON + HOUR) == NOON + HOUR
    debit(shop, [make_run(3, at=NOON + HOUR), make_run(1)])
    assert remaining(account_id) == [7]
    [balance] = queries.balances(account_ids=[account_id], at=NOON + HOUR).values()
    assert (balance.available_microtokens, balance.debt_microtokens) == (0, 3)


def test_a_run_that_occurred_later_by_its_own_clock_keeps_what_it_drew(shop, account_id):
    lot_id = make_lot(account_id, 10, hours=9, grace_hours=2)
    debit(shop, [make_run(2, at=NOON + 2 * HOUR)])
    assert end(account_id, [lot_id], NOON + HOUR) == NOON + 2 * HOUR + MOMENT


def test_it_is_closed_after_its_grace_counted_from_its_new_end(account_id):
    lot_id = make_lot(account_id, 10, hours=9, grace_hours=2)
    end(account_id, [lot_id], NOON + HOUR)
    assert Lot.objects.get(id=lot_id).closes_at == NOON + 3 * HOUR
    assert grants.close_lot(lot_id=lot_id, at=NOON + 3 * HOUR).expired_microtokens == 10


def test_asked_again_it_changes_nothing_and_it_never_lives_longer(account_id):
    lot_id = make_lot(account_id, 10, hours=9, grace_hours=2)
    for _ in range(2):
        assert end(account_id, [lot_id], NOON + HOUR) == NOON + HOUR
    with pytest.raises(IdempotencyKeyReused):
        end(account_id, [lot_id], NOON + 2 * HOUR)
    end(account_id, [lot_id], NOON + 2 * HOUR, key="later")
    assert Lot.objects.get(id=lot_id).expires_at == NOON + HOUR
