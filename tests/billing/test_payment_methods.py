"""Cards that customers keep, against the simulator: given, chosen, renewed, removed, found."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from billing import payment_methods
from billing.errors import PaymentDoesNotMatch, UnknownCardSetup, UnknownPaymentMethod
from billing.models import CardSetup, PaymentMethod, PaymentMethodChoice, StripeCall
from billing.stripe import checkout, inbox, reconcile
from tests import builders
from tests.billing.stripe_world import deliver, send_all
from tests.contract.scenes import submit

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)
MASTERCARD = "5555555555554444"


def now():
    return datetime.now(UTC)


def customer(**facts):
    made = builders.customer(builders.shop(), **{"stripe_payment_method_id": "", **facts})
    send_all(now())
    made.refresh_from_db()
    return made


def start(of, *, key=None):
    return checkout.start_setup(customer_id=of.pk, idempotency_key=key or uuid.uuid4(), at=now())


def give(at_stripe, of, card="4242424242424242"):
    """A card is given on the page, and the event comes."""
    setup = start(of)
    at_stripe.pay(setup.url, card)
    hear(at_stripe, "checkout.session.completed")
    return setup


def hear(at_stripe, *types):
    for event in at_stripe.events(*types):
        deliver(event)
    inbox.act_on_due(at=now())
    send_all(now())


def names(of):
    return [str(method) for method in payment_methods.kept(customer=of)]


def charged(of):
    return str(payment_methods.charged(customer=of))


def default_at(at_stripe, of):
    settings = at_stripe.api().v1.customers.retrieve(of.stripe_customer_id).invoice_settings
    return settings.default_payment_method


def test_a_card_is_given_kept_and_charged_from_then_on(at_stripe):
    buyer = customer()
    setup = start(buyer)
    page = f"http://127.0.0.1:8000/portal/card-setups/{setup.pk}/"
    answer = at_stripe.pay(setup.url)
    setup.refresh_from_db()
    assert answer.headers["Location"] == f"{page}?session_id={setup.stripe_session_id}"
    assert names(buyer) == []
    for _ in range(2):
        hear(at_stripe, "checkout.session.completed", "payment_method.attached", "customer.updated")
    assert names(buyer) == ["Visa ending in 4242"]
    assert charged(buyer) == "Visa ending in 4242"
    method = PaymentMethod.objects.get()
    assert (method.expires_year, method.expires_month, method.kind) == (2034, 12, "card")
    assert default_at(at_stripe, buyer) == method.stripe_payment_method_id
    setup.refresh_from_db()
    assert (setup.method, setup.saved_at is not None) == (method, True)
    assert PaymentMethodChoice.objects.count() == 1


def test_the_card_a_customer_is_opened_with_is_a_fact_too(at_stripe):
    buyer = customer(stripe_payment_method_id="pm_card_visa")
    assert charged(buyer) == "Visa ending in 4242"
    assert default_at(at_stripe, buyer) == PaymentMethod.objects.get().stripe_payment_method_id


def test_a_second_card_replaces_the_first_and_the_first_can_be_chosen_again(at_stripe):
    buyer = customer()
    give(at_stripe, buyer)
    give(at_stripe, buyer, MASTERCARD)
    assert names(buyer) == ["Mastercard ending in 4444", "Visa ending in 4242"]
    assert charged(buyer) == "Mastercard ending in 4444"
    [second, first] = payment_methods.kept(customer=buyer)
    for _ in range(2):
        payment_methods.choose(customer_id=buyer.pk, method_id=first.pk, at=now())
    send_all(now())
    assert default_at(at_stripe, buyer) == first.stripe_payment_method_id
    assert PaymentMethodChoice.objects.count() == 3
    hear(at_stripe, "customer.updated")
    assert charged(buyer) == "Visa ending in 4242"
    assert second in payment_methods.kept(customer=buyer)


def test_choices_reach_stripe_in_their_order(at_stripe):
    buyer = customer()
    give(at_stripe, buyer)
    give(at_stripe, buyer, MASTERCARD)
    [second, first] = payment_methods.kept(customer=buyer)
    at_stripe.fault(kind="reset_before", path="^/v1/customers/[^/]+$", times=3, method="POST")
    payment_methods.choose(customer_id=buyer.pk, method_id=first.pk, at=now())
    payment_methods.choose(customer_id=buyer.pk, method_id=second.pk, at=now())
    send_all(now())
    # The first choice was lost on its way; the second waits for it.
    waiting = StripeCall.objects.filter(operation="card.default", done_at__isnull=True)
    assert waiting.count() == 2
    payment_methods.refresh(customer_id=buyer.pk, at=now())
    assert charged(buyer) == str(second), "what is on its way is not taken back"
    for seconds in (10, 30, 60):
        send_all(now() + timedelta(seconds=seconds))
    assert default_at(at_stripe, buyer) == second.stripe_payment_method_id


def test_a_card_is_removed_once_and_charged_no_more(at_stripe):
    buyer = customer()
    give(at_stripe, buyer)
    [method] = payment_methods.kept(customer=buyer)
    at_stripe.fault(kind="reset_after_commit", path="/detach$", times=3)
    for _ in range(2):
        payment_methods.remove(customer_id=buyer.pk, method_id=method.pk, at=now())
    send_all(now())
    assert payment_methods.leaving(customer=buyer) == {method.pk}
    # Stripe has done it; asked again, it gives the same answer.
    send_all(now() + timedelta(minutes=1))
    assert (names(buyer), charged(buyer)) == ([], "None")
    hear(at_stripe, "payment_method.detached")
    with pytest.raises(UnknownPaymentMethod):
        payment_methods.choose(customer_id=buyer.pk, method_id=method.pk, at=now())


def test_removing_what_was_removed_at_stripe_is_done(at_stripe):
    buyer = customer()
    give(at_stripe, buyer)
    [method] = payment_methods.kept(customer=buyer)
    payment_methods.remove(customer_id=buyer.pk, method_id=method.pk, at=now())
    at_stripe.api().v1.payment_methods.detach(method.stripe_payment_method_id)
    send_all(now())
    assert names(buyer) == []
    assert not StripeCall.objects.filter(refused_at__isnull=False).exists()


def test_what_the_customer_does_on_its_own_page_at_stripe_is_found(at_stripe):
    buyer = customer()
    give(at_stripe, buyer)
    url = checkout.open_portal(
        customer=buyer, return_url="http://127.0.0.1:9/", idempotency_key=uuid.uuid4()
    )
    submit(url, MASTERCARD, act="add")
    hear(at_stripe, "payment_method.attached", "customer.updated")
    assert charged(buyer) == "Mastercard ending in 4444"
    visa = PaymentMethod.objects.get(brand="visa")
    submit(url, act="remove", method=visa.stripe_payment_method_id)
    hear(at_stripe, "payment_method.detached")
    assert names(buyer) == ["Mastercard ending in 4444"]


def test_what_no_event_told_is_found_by_asking(at_stripe):
    buyer = customer()
    setup = start(buyer)
    at_stripe.pay(setup.url)
    later = now() + timedelta(minutes=6)
    assert reconcile.reconcile(at=later).card_setups_count == 1
    assert charged(buyer) == "Visa ending in 4242"
    send_all(later)
    at_stripe.api().v1.payment_methods.detach(PaymentMethod.objects.get().stripe_payment_method_id)
    assert reconcile.reconcile(at=later + DAY).customers_count == 1
    assert names(buyer) == []
    assert reconcile.reconcile(at=later + DAY).customers_count == 0


def test_a_card_that_is_kept_with_a_top_up_is_there_to_be_charged(at_stripe):
    shop = builders.shop()
    buyer, pack = builders.customer(shop, stripe_payment_method_id=""), builders.pack(shop)
    for keeps in (False, True):
        session = checkout.start(
            customer_id=buyer.pk,
            pack_id=pack.pk,
            keeps_card=keeps,
            idempotency_key=uuid.uuid4(),
            at=now(),
        )
        at_stripe.pay(session.url)
        hear(at_stripe, "checkout.session.completed", "payment_method.attached")
        assert names(buyer) == (["Visa ending in 4242"] if keeps else [])
    assert charged(buyer) == "Visa ending in 4242"
    assert default_at(at_stripe, type(buyer).objects.get(pk=buyer.pk)) is not None


def test_a_setup_of_another_customer_saves_nothing(at_stripe):
    buyer, other = customer(), customer()
    mine, theirs = start(buyer), start(other)
    at_stripe.pay(theirs.url)
    with pytest.raises(UnknownCardSetup):
        start(buyer, key=theirs.pk)
    fresh = payment_methods.begin_setup(
        customer_id=buyer.pk, idempotency_key=uuid.uuid4(), at=now()
    )
    theirs.refresh_from_db()
    with pytest.raises(PaymentDoesNotMatch, match="client_reference_id"):
        payment_methods.finish_setup(
            card_setup_id=fresh.pk, stripe_session_id=theirs.stripe_session_id, at=now()
        )
    payment_methods.finish_setup(card_setup_id=theirs.pk, at=now())
    [method] = payment_methods.kept(customer=other)
    with pytest.raises(UnknownPaymentMethod):
        payment_methods.remove(customer_id=buyer.pk, method_id=method.pk, at=now())
    assert names(buyer) == []
    assert mine.pk != theirs.pk


def test_a_page_that_nobody_used_expires(at_stripe):
    setup = start(customer())
    at_stripe.advance(2 * 3600)
    hear(at_stripe, "checkout.session.expired")
    setup = CardSetup.objects.get()
    assert (setup.expired_at is not None, setup.saved_at) == (True, None)


def test_one_unanswered_question_leaves_the_others_asked(at_stripe):
    for _ in range(3):
        customer()
    # The SDK tries three times: the first question goes unanswered, or three in a row.
    for tries, asked in ((3, 2), (9, 0)):
        at_stripe.fault(kind="reset_before", path="^/v1/customers/", method="GET", times=tries)
        reconciled = reconcile.reconcile(at=now() + tries * DAY)
        assert reconciled.customers_count == asked
