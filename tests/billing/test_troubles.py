"""What Stripe refused is told to those who can mend it, and asked again when they say so."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client
from django.urls import reverse

from billing import invoicing
from billing.models import Customer, Invoice, StripeCall
from billing.stripe import outbox, reconcile, troubles
from config import doctor
from tests import builders

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


def now():
    return datetime.now(UTC)


@pytest.fixture
def shop():
    return builders.shop()


@pytest.fixture
def refused(at_stripe, shop):
    """A customer whom Stripe refused to open, and whose first invoice waits for that."""
    at_stripe.fault(kind="status", status=400, path="^/v1/customers$")
    customer = builders.customer(shop, email="wrong@example.com")
    builders.subscription(customer, builders.plan_version(shop))
    outbox.send_due(at=now())
    return customer


def standing(shop, at=None):
    return troubles.of_books(book_ids=[shop.vendor.book_id], at=at or now())


def signed_in(user):
    client = Client()
    client.force_login(user)
    return client


def test_a_refusal_says_what_for_whom_why_and_what_to_do(refused, shop):
    [trouble] = standing(shop)
    assert trouble.customer == refused
    assert trouble.what == "open the customer at Stripe"
    assert trouble.words == StripeCall.objects.get(refused_at__isnull=False).error_message != ""
    assert "Correct its name or email" in trouble.remedy
    assert standing(builders.shop()) == []


def test_asking_again_sends_what_the_rows_say_now_and_the_chain_goes_on(refused, shop, at_stripe):
    Customer.objects.filter(pk=refused.pk).update(email="right@example.com")
    [trouble] = standing(shop)
    again = troubles.ask_again(call_id=trouble.call.pk, at=now())
    assert troubles.ask_again(call_id=trouble.call.pk, at=now()) == again
    assert (again.attempt, again.params["email"]) == (2, "right@example.com")
    assert standing(shop) == []
    outbox.send_due(at=now())
    [opened] = at_stripe.api().v1.customers.list({}).data
    assert opened.email == "right@example.com"
    assert invoicing.state(invoice=Invoice.objects.get()) == "paid"


def test_a_parked_call_that_was_carried_out_counts_as_done_and_is_not_asked_again(shop, at_stripe):
    builders.customer(shop)
    at_stripe.fault(kind="reset_after_commit", path="^/v1/customers$", times=3)
    at = now()
    outbox.send_due(at=at)
    call = StripeCall.objects.get(operation="customer.create")
    StripeCall.objects.filter(pk=call.pk).update(parked_at=at, error_code="idempotency_key_reused")
    [trouble] = standing(shop)
    assert troubles.ask_again(call_id=trouble.call.pk, at=at).done_at == at
    assert len(at_stripe.api().v1.customers.list({}).data) == 1
    assert standing(shop) == []


def test_what_the_reconciler_settles_is_told_only_when_it_has_not_within_an_hour(shop):
    builders.customer(shop)
    at = now()
    StripeCall.objects.update(parked_at=at, error_code=outbox.KEY_POISONED)
    assert standing(shop, at) == []
    assert len(standing(shop, at + HOUR)) == 1


def test_a_parked_call_that_cannot_even_be_looked_up_keeps_no_other_from_it(shop, at_stripe):
    at = now()
    StripeCall.objects.create(
        operation="nonsense",
        aggregate_id=uuid.uuid4(),
        idempotency_key="nonsense",
        params={},
        created_at=at,
        parked_at=at,
        error_code=outbox.KEY_POISONED,
    )
    builders.customer(shop)
    opened = StripeCall.objects.filter(operation="customer.create")
    opened.update(parked_at=at, first_sent_at=at, error_code=outbox.KEY_POISONED)
    assert reconcile.reconcile(at=at).calls_count == 2
    assert opened.filter(attempt=2).exists()


def test_a_declined_card_is_told_until_the_invoice_is_paid_otherwise(shop, at_stripe):
    customer = builders.customer(shop, stripe_payment_method_id="pm_card_chargeCustomerFail")
    builders.subscription(customer, builders.plan_version(shop))
    outbox.send_due(at=now())
    [trouble] = standing(shop)
    assert (trouble.what, "declined" in trouble.words) == ("charge an invoice", True)
    at_stripe.pay(Invoice.objects.get().finalization.hosted_url)
    # Charging the card again finds that it is paid.
    troubles.ask_again(call_id=trouble.call.pk, at=now())
    outbox.send_due(at=now())
    assert invoicing.state(invoice=Invoice.objects.get()) == "paid"
    assert Invoice.objects.get().payment_failures.count() == 1
    assert standing(shop) == []


def test_the_admins_first_page_tells_of_it_and_its_button_asks_again(refused, shop):
    finance = signed_in(builders.employee(shop, role="finance"))
    [trouble] = standing(shop)
    page = finance.get(reverse("admin:index")).content.decode()
    assert f"{refused}: open the customer at Stripe" in page
    button = reverse("admin:billing_stripecall_ask_again", args=[trouble.call.pk])
    assert button in page
    told = finance.post(button, follow=True).content.decode()
    assert "asked again, as attempt 2" in told
    assert "Stripe did not do" not in told


def test_nobody_else_sees_it_or_may_ask_again(refused, shop):
    [trouble] = standing(shop)
    button = reverse("admin:billing_stripecall_ask_again", args=[trouble.call.pk])
    rival = signed_in(builders.employee(builders.shop()))
    assert "Stripe did not do" not in rival.get(reverse("admin:index")).content.decode()
    assert rival.post(button).status_code == 404
    seller = signed_in(builders.employee(shop, role="pricing"))
    assert button not in seller.get(reverse("admin:index")).content.decode()
    assert seller.post(button).status_code == 404
    assert signed_in(builders.employee(shop)).get(button).status_code == 405
    assert StripeCall.objects.filter(attempt=2).count() == 0


def test_the_list_of_calls_names_them_and_asks_again(refused, shop):
    operator = signed_in(builders.person(is_staff=True, is_superuser=True))
    address = reverse("admin:billing_stripecall_changelist")
    page = operator.get(address, {"standing": "yes"}).content.decode()
    assert str(refused) in page
    assert "invoice.create" not in page.split("result_list")[-1].split("</table>")[0]
    [trouble] = standing(shop)
    chosen = {"action": "ask_again", "_selected_action": [trouble.call.pk]}
    assert "asked again" in operator.post(address, chosen, follow=True).content.decode()
    assert StripeCall.objects.filter(attempt=2).count() == 1


def test_the_doctor_warns_of_it(refused):
    [finding] = doctor.calls_to_stripe()
    assert (finding.verdict, finding.text[:7]) == ("warn", "1 ended")
    StripeCall.objects.filter(refused_at__isnull=False).update(refused_at=None, done_at=now())
    [finding] = doctor.calls_to_stripe()
    assert finding.verdict == "ok"
