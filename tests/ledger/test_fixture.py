"""The fixture that watches over every test with a database: it must see, and leave nothing."""

import pytest
from django.db import connection, transaction

from ledger.invariants import violations
from ledger.models import Account, Run
from tests.ledger.builders import debit, make_account, make_lot, make_run, make_shop


@pytest.mark.parametrize("time", ["first", "second"])
def test_a_committing_test_leaves_nothing_behind(transactional_db: None, time: str) -> None:
    assert not Account.objects.exists()
    shop = make_shop()
    account_id = make_account(shop)
    make_lot(account_id, 10)
    debit(shop, [make_run(3)])
    assert Run.objects.count() == 1


def test_a_ledger_that_is_not_sound_is_seen(db: None) -> None:
    account_id = make_account(make_shop())
    lot_id = make_lot(account_id, 10)
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("UPDATE ledger_lot SET out_microtokens = 1 WHERE id = %s", [lot_id])
        assert violations() == {
            "what is out of a lot is the sum of its movements": [(lot_id,)],
            "movements of a lot follow one another without gap or overlap": [(lot_id, 0)],
        }
        transaction.set_rollback(True)
