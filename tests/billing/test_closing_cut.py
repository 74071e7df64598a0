"""Closings that die at any statement, and rollovers on the boundary of two terms."""

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from billing import closing
from billing.models import Period
from ledger import grants, queries
from tests.billing.test_closing import CLOSING, EXPECTED, busy_scene, lots, outcome, scene
from tests.builders import DAY, NOVEMBER, OCTOBER, TOKEN

pytestmark = pytest.mark.django_db


class Killed(BaseException):
    """The process dies here: nothing catches it."""


@contextmanager
def killed_at(number):
    """Dies at the statement of this number, if there are so many."""
    count = 0

    def run(execute, sql, params, many, context):
        nonlocal count
        count += 1
        if count == number:
            raise Killed
        return execute(sql, params, many, context)

    with connection.execute_wrapper(run):
        yield


@pytest.mark.parametrize("first", [1, 2, 3])
def test_a_closing_that_dies_at_any_statement_is_resumed_to_the_same_end(first):
    """Each dies at every third statement, before it is done: between them at every one."""
    busy_scene()
    period = Period.objects.get(number=1)
    deaths = 0
    while True:
        try:
            with killed_at(first + 3 * deaths):
                closing.close(period_id=period.pk, at=CLOSING)
        except Killed:
            deaths += 1
        else:
            break
    assert deaths > 10
    closing.close(period_id=period.pk, at=CLOSING + DAY)
    found = outcome()
    assert {name: found[name] for name in EXPECTED} == EXPECTED


def test_two_rollovers_that_live_at_once_expire_each_with_its_own_term():
    customer = scene(grace=timedelta(0))
    grants.grant(
        account_id=customer.account_id,
        microtokens=100 * TOKEN,
        source="pilot",
        price_micros=0,
        currency="EUR",
        priority=90,
        effective_at=OCTOBER,
        expires_at=NOVEMBER,
        rollover_microtokens_max=40 * TOKEN,
        rollover_expires_at=NOVEMBER + 60 * DAY,
        idempotency_key="pilot",
        at=OCTOBER,
    )
    closing.close_due(at=NOVEMBER)
    grants.expire_due(at=NOVEMBER)
    december = datetime(2026, 12, 1, tzinfo=UTC)
    first, second = sorted(lots(customer, "rollover"), key=lambda lot: lot.expires_at)
    assert (first.expires_at, second.expires_at) == (december, NOVEMBER + 60 * DAY)

    def spendable(at):
        balances = queries.balances(account_ids=[customer.account_id], at=at)
        return balances[customer.account_id].available_microtokens

    moment = timedelta(microseconds=1)
    # November's allotment is there as well until its end; nobody has swept yet.
    assert spendable(december - moment) == (1_000 + 200 + 40) * TOKEN
    assert spendable(december) == 40 * TOKEN
    closing.close_due(at=december)
    grants.expire_due(at=december)
    assert spendable(december) == (1_000 + 200 + 40) * TOKEN
