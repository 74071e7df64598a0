import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from billing import standing
from tests import builders
from tests.builders import DAY, OCTOBER, TOKEN


@pytest.mark.django_db
def test_the_lots_of_all_customers_are_read_once():
    shop = builders.shop()
    customers = [builders.customer(shop) for _ in range(3)]
    version = builders.plan_version(shop)
    for customer in customers:
        builders.subscription(customer, version)
        builders.use(customer, 400, occurred_at=OCTOBER + DAY)
    with CaptureQueriesContext(
        connection,
    ) as asked:
        found = standing.of_customers(customers=customers, at=OCTOBER + 2 * DAY)
    assert sum("ledger_lot_now" in query["sql"] for query in asked) == 1
    assert [one.balance.available_microtokens for one in found] == [600 * TOKEN] * 3
    assert [one.used_percent for one in found] == [40] * 3
