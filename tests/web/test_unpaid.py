"""An invoice that is not paid, as the customer, the account manager and the admin see it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from djmoney.money import Money

from billing import dunning, invoicing, tax_location
from billing.models import Invoice, StripeCall, Vendor
from billing.stripe import calls
from tests.web.conftest import Company, Visitor, company, text_of
from tests.web.test_paying import keep

DAY = timedelta(days=1)
PAGE = "https://invoice.example/i/1"


def fail(of: Company, *, code: str = "insufficient_funds", days_ago: float = 2) -> Invoice:
    """Its invoice was issued and its card refused, so many days ago."""
    at = datetime.now(UTC) - days_ago * DAY
    keep(of)
    invoice = Invoice.objects.get(customer=of.customer)
    total = sum((line.amount for line in invoice.lines.all()), start=Money(0, "EUR"))
    invoicing.record_finalization(
        invoice=invoice,
        stripe_invoice_id=f"in_{invoice.pk}",
        number="ACME-0001",
        hosted_url=PAGE,
        subtotal=total,
        total=total,
        finalized_at=at,
    )
    invoicing.record_payment_failure(
        invoice=invoice,
        reference="ch_1",
        code="card_declined",
        decline_code=code,
        message="Your card was declined.",
        at=at,
    )
    return invoice


def portal(of: Company, page: str = "") -> str:
    return f"/portal/{of.customer.reference}/{page}"


def test_every_page_of_the_portal_says_so_and_leads_to_the_payment(
    ours: Company, signed_in
) -> None:
    client = signed_in(ours.buyer)
    assert "ACME-0001" not in text_of(client.get(portal(ours)))
    fail(ours)
    for page in ("", "runs/", "plan/", "invoices/", "buy/", "payment/", "auto-top-up/"):
        response = client.get(portal(ours, page))
        shown = text_of(response)
        assert "Invoice ACME-0001 over €1,500.00 could not be charged." in shown, page
        assert "The card is charged again on" in shown
        assert "no new runs can be reserved until it is" in shown
        assert f'href="{PAGE}"' in response.content.decode()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("authentication_required", "Your bank wants you to confirm the payment"),
        ("lost_card", "Your bank does not accept the card any more"),
    ],
)
def test_what_the_bank_wants_is_said(code: str, words: str, ours: Company, signed_in) -> None:
    keep(ours)
    fail(ours, code=code, days_ago=0)
    dunning.advance(at=datetime.now(UTC))
    shown = text_of(signed_in(ours.buyer).get(portal(ours)))
    assert words in shown
    assert "charged again on" not in shown


def test_a_restricted_customer_reads_all_and_is_told_why_and_a_payment_ends_it(
    ours: Company, signed_in
) -> None:
    invoice = fail(ours, days_ago=20)
    for days in (2, 0):
        dunning.advance(at=datetime.now(UTC) - days * DAY)
    client = signed_in(ours.buyer)
    assert "No new runs can be reserved: invoice ACME-0001" in text_of(client.get(portal(ours)))
    manager = signed_in(ours.account_manager)
    for path in ("/desk/", f"/desk/{ours.customer.reference}/"):
        shown = text_of(manager.get(path))
        assert "Invoice ACME-0001 over €1,500.00 is past due since" in shown
        assert "No new runs can be reserved until it is paid" in shown
    change = f"/admin/billing/customer/{ours.customer.pk}/change/"
    assert "past due: no new holds; invoice ACME-0001" in text_of(signed_in(ours.admin).get(change))
    total = invoice.finalization.total
    invoicing.record_payment(invoice=invoice, amount=total, paid_at=datetime.now(UTC))
    assert "ACME-0001 over" not in text_of(client.get(portal(ours)))
    assert "in order" in text_of(signed_in(ours.admin).get(change))


def test_an_invoice_that_waits_for_an_address_asks_for_it(
    ours: Company, theirs: Company, signed_in
) -> None:
    now = datetime.now(UTC)
    StripeCall.objects.create(
        operation=calls.INVOICE_FINALIZE,
        aggregate_id=Invoice.objects.get(customer=ours.customer).pk,
        idempotency_key="k",
        params={},
        created_at=now,
        refused_at=now,
        error_code=tax_location.LOCATION_UNKNOWN,
    )
    response = signed_in(ours.buyer).get(portal(ours))
    assert "An invoice waits for your address" in text_of(response)
    assert f'action="{portal(ours)}payment/stripe/"' in response.content.decode()
    assert "waits for your address" not in text_of(signed_in(theirs.buyer).get(portal(theirs)))


def test_nobody_elses_unpaid_invoice_is_shown(ours: Company, theirs: Company, signed_in) -> None:
    fail(theirs)
    assert "ACME-0001" not in text_of(signed_in(ours.buyer).get(portal(ours)))
    assert "ACME-0001" not in text_of(signed_in(ours.account_manager).get("/desk/"))


@pytest.mark.parametrize(
    ("days", "told"),
    [
        ("2,5", ""),
        ("5,2", "must ascend"),
        ("2,2", "must ascend"),
        ("0,1", "Item 1"),
        ("x", "whole"),
    ],
)
def test_a_vendor_chooses_the_days_of_trying_again(
    days: str, told: str, ours: Company, signed_in
) -> None:
    path = f"/admin/billing/vendor/{ours.shop.vendor.pk}/change/"
    typed = {"name": "Ours", "dunning_retry_days": days, "dunning_grace_days": "3"}
    response = signed_in(ours.admin).post(path, typed)
    vendor = Vendor.objects.get(pk=ours.shop.vendor.pk)
    if told:
        assert told in response.content.decode()
        assert vendor.dunning_retry_days == [1, 3, 5, 7]
    else:
        assert response.status_code == 302
        assert (vendor.dunning_retry_days, vendor.dunning_grace_days) == ([2, 5], 3)


@pytest.fixture
def live(live_server: Any) -> Company:
    return company("ours")


def test_the_notices_fit_a_phone(visitor: Visitor, live: Company) -> None:
    fail(live)
    visitor.sign_in(live.buyer)
    visitor.look("portal-past-due")
    for days in (-12, -14):
        dunning.advance(at=datetime.now(UTC) - days * DAY)
    visitor.go(portal(live))
    visitor.look("portal-restricted")
