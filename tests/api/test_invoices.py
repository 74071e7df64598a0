"""Invoices over HTTP, to machines of the vendor alone."""

from datetime import UTC, datetime

import pytest
from django.test import Client

from ledger import access
from tests import builders
from tests.builders import OPENED, TOKEN

pytestmark = pytest.mark.django_db


def machine(vendor):
    key = access.issue_api_key(book_id=vendor.book_id, name="test", at=OPENED)
    return Client(headers={"authorization": f"Bearer {key.secret}"})


@pytest.fixture
def customer():
    """On a plan with overage since the beginning of this month, 300 tokens into it."""
    shop = builders.shop()
    customer = builders.customer(shop, code="acme")
    now = datetime.now(UTC)
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    version = builders.plan_version(shop, **builders.billed(allotment_microtokens=10 * TOKEN))
    builders.subscription(customer, version, starts_at=month)
    builders.use(customer, 310, occurred_at=now, at=now)
    return customer


def test_the_next_invoice_is_told_line_by_line(customer):
    answer = machine(customer.vendor).get("/api/v1/accounts/acme/next-invoice").json()
    told = answer["next_invoice"]
    assert (told["occasion"], told["currency"], told["is_carried"]) == ("closing", "EUR", False)
    assert [(line["kind"], line["amount_micros"]) for line in told["lines"]] == [
        ("overage", 0),
        ("overage", 1_000_000),
        ("platform_fee", 500_000_000),
        ("allotment", 1_000_000_000),
    ]
    assert [line["period"]["number"] for line in told["lines"]] == [1, 1, 2, 2]
    assert (told["total_micros"], told["total"]) == (1_501_000_000, "€1,501.00")


def test_without_a_subscription_there_is_none():
    shop = builders.shop()
    builders.customer(shop, code="new")
    answer = machine(shop.vendor).get("/api/v1/accounts/new/next-invoice")
    assert answer.json() == {"account": "new", "next_invoice": None}


def test_another_vendors_key_finds_no_such_account(customer):
    stranger = machine(builders.shop().vendor)
    root = "/api/v1/accounts/acme"
    statement = f"{root}/invoices/{customer.invoices.get().pk}/statement"
    for path in (f"{root}/next-invoice", f"{root}/invoices", statement):
        for client, status in ((stranger, 404), (Client(), 401)):
            assert client.get(path).status_code == status, path


def test_an_invoice_is_told_by_cost_centre(customer):
    client = machine(customer.vendor)
    [invoice] = client.get("/api/v1/accounts/acme/invoices").json()["invoices"]
    assert (invoice["state"], invoice["total_micros"]) == ("preparing", 1_500_000_000)
    told = client.get(f"/api/v1/accounts/acme/invoices/{invoice['id']}/statement").json()
    assert (told["is_final"], told["total_micros"]) == (False, invoice["total_micros"])
    [sales] = told["cost_centres"]
    assert (sales["cost_centre"], sales["tokens"]) == ("sales", "310")
    assert [line["amount_micros"] for line in sales["lines"]] == [500_000_000, 1_000_000_000]


def test_an_invoice_of_somebody_else_of_the_same_vendor_is_not_the_accounts(customer):
    neighbour = builders.customer(
        builders.Shop(
            vendor=customer.vendor,
            unit_id=customer.subscriptions.get().plan_version.unit_id,
            rate_card_id=customer.subscriptions.get().plan_version.rate_card_id,
        ),
        code="neighbour",
    )
    path = f"/api/v1/accounts/{neighbour.code}/invoices/{customer.invoices.get().pk}/statement"
    answer = machine(customer.vendor).get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_invoice")
