"""The journal in the admin: months, a picture, downloads; for finance and administrators alone."""

from datetime import datetime
from urllib.parse import urlencode

import pytest
from django.urls import reverse

from billing.books import days
from tests import builders
from tests.billing.bookkeeping import issue
from tests.builders import DAY, NOVEMBER
from tests.web.conftest import Company, Visitor, company, text_of

LIST = "/admin/billing/journalday/"
BEGAN = NOVEMBER - 4 * DAY


def booked(of: Company) -> None:
    """A few days of October and of November."""
    customer = builders.customer(of.shop)
    builders.subscription(customer, of.version, starts_at=BEGAN)
    issue(customer.invoices.get(), at=BEGAN)
    for number in (1, 5):
        builders.use(customer, 200, occurred_at=BEGAN + number * DAY)
    until: datetime = NOVEMBER + 2 * DAY
    days.close(vendor_id=of.shop.vendor.pk, until=until.date(), at=until + 2 * DAY)


def export(of: Company, kind: str, **query: str) -> str:
    address = reverse("admin:billing_journal_export", args=[of.shop.vendor.pk, kind])
    return f"{address}?{urlencode(query)}"


def test_finance_sees_what_was_earned_by_month_and_downloads_it(ours: Company, signed_in) -> None:
    finance = signed_in(builders.employee(ours.shop, role="finance"))
    assert "No day is closed yet" in text_of(finance.get(LIST))
    booked(ours)
    page = text_of(finance.get(LIST))
    assert "Ours, up to 3 November 2026" in page
    # Fees of 4 days of 31, and 200 tokens at a euro each.
    assert "October 2026 €264.52 €0.00 €1,235.48 €1,500.00" in page
    home = finance.get("/admin/")
    assert "What Ours earned, up to 3 November 2026" in text_of(home)
    assert "October 2026, recognised: €264.52" in home.content.decode()
    october = b"".join(finance.get(export(ours, "csv", month="2026-10")).streaming_content)
    assert b"2026-10-31" in october
    assert b"2026-11-01" not in october
    whole = finance.get(export(ours, "beancount"))
    assert whole["Content-Disposition"] == (
        'attachment; filename="ours-2026-10-28-2026-11-03.beancount"'
    )
    assert b"balance Assets:Receivable" in b"".join(whole.streaming_content)
    [day, *_] = ours.shop.vendor.journal_days.order_by("-day")
    assert "Deferred revenue, fees: " in text_of(finance.get(f"{LIST}{day.pk}/change/"))


def test_nobody_else_sees_the_journal(ours: Company, theirs: Company, signed_in) -> None:
    booked(ours)
    for person in (ours.pricing, ours.account_manager):
        client = signed_in(person)
        assert client.get(LIST).status_code == 403
        assert client.get(export(ours, "csv")).status_code == 404
        home = text_of(client.get("/admin/"))
        assert "Journal" not in home
        assert "earned, up to" not in home
    rival = signed_in(theirs.admin)
    assert "Ours" not in text_of(rival.get(LIST))
    for kind in ("csv", "beancount", "hledger"):
        assert rival.get(export(ours, kind)).status_code == 404


@pytest.mark.parametrize(("kind", "month"), [("pdf", ""), ("csv", "soon"), ("csv", "2026-13")])
def test_a_download_of_what_is_not_there_is_not_found(
    kind: str, month: str, ours: Company, signed_in
) -> None:
    booked(ours)
    assert signed_in(ours.admin).get(export(ours, kind, month=month)).status_code == 404


def test_the_journal_reads_well_at_both_widths(
    visitor: Visitor, live_server, transactional_db
) -> None:
    ours = company("ours")
    booked(ours)
    visitor.sign_in(ours.admin)
    visitor.go("/admin/")
    visitor.look("admin-home-earned")
    visitor.go(LIST)
    visitor.look("admin-journal")
