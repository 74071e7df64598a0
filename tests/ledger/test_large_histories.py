"""What is asked of a large history: a few statements, however much there is of it."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from ledger import moving, queries, reviews
from ledger.reviews import Answer
from tests.ledger.builders import HOUR, NOON, debit, make_account, make_lot, make_run, make_shop
from tests.ledger.holding import hold, limit


@pytest.fixture
def shop(db: None):
    return make_shop()


@pytest.fixture
def account_id(shop) -> int:
    account_id = make_account(shop)
    make_lot(account_id, 1_000)
    return account_id


def test_however_many_limits_there_are_the_runs_are_read_once(shop, account_id) -> None:
    for scope in ("account", "actor", "workflow"):
        for period in ("day", "month"):
            limit(account_id, 1_000, scope=scope, period=period)
    debit(shop, [make_run(1, at=NOON + hour * HOUR) for hour in range(48)])
    with CaptureQueriesContext(connection) as asked:
        moving.move_account(account_id=account_id, time_zone="Asia/Tokyo")
    assert sum("FROM ledger_run" in one["sql"] for one in asked) == 1


def test_however_many_holds_wait_an_answer_is_a_few_statements(shop, account_id) -> None:
    def asked(count: int, *, allow: bool) -> int:
        limit(account_id, 10, scope="project", value=f"{count}{allow}", hard=False)
        for _ in range(count):
            hold(shop, 11, project=f"{count}{allow}")
        [review] = reviews.waiting(account_ids=[account_id])
        with CaptureQueriesContext(connection) as statements:
            reviews.answer(
                account_id=account_id,
                review_id=review.id,
                answer=Answer(allow=allow, reason="asked"),
                at=NOON,
            )
        return len(statements)

    assert asked(7, allow=True) == asked(2, allow=True)
    assert asked(7, allow=False) == asked(2, allow=False)


def test_how_many_runs_there_are_is_known_without_counting_them(shop, account_id) -> None:
    debit(shop, [make_run(1), make_run(2)])
    with CaptureQueriesContext(connection) as asked:
        assert queries.runs_count(account_ids=[account_id]) == 2
    assert not any("ledger_run" in one["sql"] for one in asked)
