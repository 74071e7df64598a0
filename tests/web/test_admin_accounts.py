"""The admin's list of accounts."""

from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tests import builders
from tests.web.conftest import Company, text_of


def test_a_page_of_accounts_reads_all_their_lots_at_once(ours: Company, signed_in) -> None:
    client = signed_in(ours.admin)
    for number in range(3):
        builders.customer(ours.shop, code=f"more-{number}")
    with CaptureQueriesContext(connection) as asked:
        page = client.get(reverse("admin:ledger_account_changelist"))
    assert sum("ledger_lot_now" in one["sql"] for one in asked) == 1
    assert "1,000" in text_of(page)
