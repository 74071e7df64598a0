"""The page about the plan: what it says, and what comes next."""

import csv
from datetime import UTC, datetime
from decimal import Decimal
from io import StringIO

from tests import builders
from tests.web.conftest import Company, Visitor, company, text_of


def test_the_next_invoice_is_shown_to_customer_and_vendor_alike(ours: Company, signed_in) -> None:
    now = datetime.now(UTC)
    builders.use(ours.customer, 250, occurred_at=now, at=now)
    portal = text_of(signed_in(ours.buyer).get(f"/portal/{ours.customer.reference}/plan/"))
    address = f"/admin/billing/customer/{ours.customer.pk}/next-invoice/"
    admin = text_of(signed_in(ours.account_manager).get(address))
    for page in (portal, admin):
        assert "Platform fee," in page
        assert "Before tax €1,500.00" in page
    assert "Each month starts with 1,000 tokens for €1,000.00" in portal


def test_another_vendor_does_not_see_the_next_invoice(
    ours: Company, theirs: Company, signed_in
) -> None:
    address = f"/admin/billing/customer/{ours.customer.pk}/next-invoice/"
    assert signed_in(theirs.admin).get(address).status_code == 404


def test_without_a_plan_the_page_says_what_to_do(ours: Company, signed_in) -> None:
    newcomer = builders.customer(ours.shop, code="newcomer")
    shown = text_of(signed_in(builders.buyer(newcomer)).get(f"/portal/{newcomer.reference}/plan/"))
    assert "There is no plan running." in shown
    assert "None is to come." in shown


def test_the_page_reads_well_at_both_widths(
    visitor: Visitor, live_server, transactional_db
) -> None:

    ours = company("ours")
    now = datetime.now(UTC)
    builders.use(ours.customer, 250, occurred_at=now, at=now)
    visitor.sign_in(ours.buyer)
    visitor.go(f"/portal/{ours.customer.reference}/plan/")
    visitor.look("portal-plan")
    visitor.go(f"/portal/{ours.customer.reference}/invoices/")
    visitor.look("portal-invoices")
    visitor.go(
        f"/portal/{ours.customer.reference}/invoices/{ours.customer.invoices.get().pk}/statement/"
    )
    visitor.look("portal-statement")
    visitor.page.context.clear_cookies()
    visitor.sign_in(ours.admin)
    visitor.go(f"/admin/billing/customer/{ours.customer.pk}/next-invoice/")
    visitor.look("admin-next-invoice")


def test_a_statement_adds_up_and_can_be_taken_along(ours: Company, signed_in) -> None:
    now = datetime.now(UTC)
    for cost_centre, tokens in (("sales", 20), ("=legal", 10)):
        builders.use(ours.customer, tokens, occurred_at=now, at=now, cost_centre=cost_centre)
    client = signed_in(ours.buyer)
    root = f"/portal/{ours.customer.reference}/invoices/"
    address = f"{root}{ours.customer.invoices.get().pk}/statement"
    assert f'href="{address}/"' in client.get(root).content.decode()
    shown = text_of(client.get(f"{address}/"))
    assert "Not final yet." in shown
    assert "sales 20 €1,000.00" in shown
    assert "=legal 10 €500.00" in shown
    taken = client.get(f"{address}.csv")
    assert taken["Content-Disposition"].startswith("attachment; filename=")
    rows = list(csv.DictReader(StringIO(taken.content.decode())))
    assert sum(Decimal(row["amount"]) for row in rows) == 1_500
    assert {row["cost_centre"] for row in rows} == {"sales", "'=legal"}
