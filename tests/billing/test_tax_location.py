"""Tax: an invoice that waits for an address goes on when it is there; tax is always said."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from djmoney.money import Money

from billing.models import InvoicePayment, Notice, StripeCall
from billing.stripe import checkout, inbox, reconcile, troubles
from tests import builders
from tests.billing.stripe_world import deliver, send_all
from tests.contract.scenes import submit

pytestmark = pytest.mark.django_db

FINALIZE = "/finalize$"


def now():
    return datetime.now(UTC)


@pytest.fixture
def waiting(at_stripe, settings):
    """A customer whose first invoice Stripe would not issue: nobody knows where it is."""
    settings.STRIPE_TAX = True
    at_stripe.tell("tax", percent=20)
    shop = builders.shop()
    buyer = builders.customer(shop)
    builders.subscription(buyer, builders.plan_version(shop), starts_at=now(), at=now())
    send_all(now())
    buyer.refresh_from_db()
    return buyer


def give_address(of, **more):
    """The customer does what the portal leads to."""
    url = checkout.open_portal(
        customer=of, return_url="http://127.0.0.1:9/", idempotency_key=uuid.uuid4()
    )
    submit(url, act="details", country="DE", postal_code="10115", **more)


def test_people_are_told_what_is_missing_and_how_to_mend_it(at_stripe, waiting):
    [trouble] = troubles.of_books(book_ids=[waiting.vendor.book_id], at=now())
    assert trouble.what == "issue an invoice"
    assert "location" in trouble.words
    assert "goes on by itself" in trouble.remedy
    assert Notice.objects.get().subject.endswith("an invoice waits for your address")


def test_it_goes_on_by_itself_when_the_address_is_given(at_stripe, waiting):
    give_address(waiting, tax_id="DE123456789")
    for _ in range(2):
        for event in at_stripe.events("customer.updated"):
            deliver(event)
        inbox.act_on_due(at=now())
        send_all(now())
    assert InvoicePayment.objects.get().amount == Money(1_800, "EUR")
    assert len(at_stripe.received(FINALIZE)) == 2
    assert troubles.of_books(book_ids=[waiting.vendor.book_id], at=now()) == []
    [tax_id] = at_stripe.api().v1.customers.tax_ids.list(waiting.stripe_customer_id).data
    assert tax_id.value == "DE123456789"


def test_without_an_event_it_is_found_by_asking_and_without_an_address_not_repeated(
    at_stripe, waiting
):
    for minutes in (10, 20, 30):
        at = now() + timedelta(minutes=minutes)
        assert reconcile.reconcile(at=at).customers_count == 1
        send_all(at)
    assert len(at_stripe.received(FINALIZE)) == 1
    give_address(waiting)
    later = now() + timedelta(minutes=40)
    reconcile.reconcile(at=later)
    send_all(later)
    assert InvoicePayment.objects.exists()
    assert reconcile.reconcile(at=later).customers_count == 0
    assert Notice.objects.count() == 1


@pytest.mark.parametrize("taxes", [True, False])
def test_whether_there_is_tax_is_said_in_every_call_that_sells_something(
    at_stripe, settings, taxes
):
    settings.STRIPE_TAX = taxes
    shop = builders.shop()
    buyer, pack = builders.customer(shop), builders.pack(shop)
    builders.subscription(buyer, builders.plan_version(shop), starts_at=now(), at=now())
    checkout.start(customer_id=buyer.pk, pack_id=pack.pk, idempotency_key=uuid.uuid4(), at=now())
    checkout.start_setup(customer_id=buyer.pk, idempotency_key=uuid.uuid4(), at=now())
    send_all(now())
    selling = [
        call
        for call in at_stripe.received("^/v1/(invoices|checkout/sessions)$")
        if call["params"].get("mode") != "setup"
    ]
    assert len(selling) == 2
    for call in selling:
        assert call["params"]["automatic_tax[enabled]"] == str(taxes).lower()
    ids = {call["params"].get("tax_id_collection[enabled]") for call in selling}
    assert ("true" in ids) == taxes
    assert StripeCall.objects.filter(operation="setup.create", done_at__isnull=False).exists()
