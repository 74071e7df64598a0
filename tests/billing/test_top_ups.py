"""Top-ups against the simulator: real HTTP, the official SDK, signed events."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from djmoney.money import Money

from billing import top_ups
from billing.errors import (
    KeyReused,
    NotForSale,
    PaymentDoesNotMatch,
    StripeUnavailable,
    UnknownTopUp,
)
from billing.models import (
    StripeCall,
    StripeEvent,
    TopUp,
    TopUpFulfilment,
    TopUpPayment,
    TopUpSession,
)
from billing.stripe import checkout, inbox, reconcile
from ledger import queries
from tests import builders
from tests.billing.stripe_world import deliver, send_all
from tests.builders import TOKEN

pytestmark = pytest.mark.django_db

COMPLETED = "checkout.session.completed"
SUCCEEDED = "payment_intent.succeeded"


def now():
    return datetime.now(UTC)


def scene():
    shop = builders.shop()
    return builders.customer(shop), builders.pack(shop)


def start(customer, pack, *, key=None):
    return checkout.start(
        customer_id=customer.pk,
        pack_id=pack.pk,
        idempotency_key=key or uuid.uuid4(),
        at=now(),
    )


def lots(customer):
    found = queries.lots(account_ids=[customer.account_id])
    return [lot for lot in found if lot.source == "top_up"]


def state(session):
    return top_ups.state(top_up=TopUp.objects.get(pk=session.top_up_id))


def act(at=None):
    inbox.act_on_due(at=at or now())


def test_a_pack_is_bought_paid_and_granted_as_a_lot_of_its_own(at_stripe):
    customer, pack = scene()
    session = start(customer, pack)
    assert state(session) == "pending"
    answer = at_stripe.pay(session.url)
    assert answer.headers["Location"] == (
        f"http://127.0.0.1:8000/portal/top-ups/{session.top_up_id}/"
        f"?session_id={session.stripe_session_id}"
    )
    [event] = at_stripe.events(COMPLETED)
    assert deliver(event).status_code == 200
    act()
    [lot] = lots(customer)
    assert lot.granted_microtokens == 500 * TOKEN
    assert (lot.price_micros, lot.currency) == (600_000_000, "EUR")
    payment = TopUpPayment.objects.get()
    assert payment.amount == Money(600, "EUR")
    assert lot.effective_at == payment.paid_at
    assert lot.expires_at is not None
    assert lot.expires_at - payment.paid_at in (timedelta(days=365), timedelta(days=366))
    assert state(session) == "granted"


def test_a_second_purchase_is_a_new_lot_with_its_own_expiry(at_stripe):
    customer, pack = scene()
    for _ in range(2):
        session = start(customer, pack)
        at_stripe.pay(session.url)
        assert top_ups.fulfil(top_up_id=session.top_up_id, at=now())
    first, second = lots(customer)
    assert first.id != second.id
    assert first.granted_microtokens == second.granted_microtokens == 500 * TOKEN


def test_the_same_event_twice_and_another_event_of_the_same_payment_grant_one_lot(at_stripe):
    customer, pack = scene()
    at_stripe.pay(start(customer, pack).url)
    [completed], [succeeded] = at_stripe.events(COMPLETED), at_stripe.events(SUCCEEDED)
    for event in (succeeded, completed, completed, succeeded):
        assert deliver(event).status_code == 200
        act()
    assert len(lots(customer)) == 1
    assert StripeEvent.objects.filter(done_at__isnull=False).count() == 2
    assert TopUpFulfilment.objects.count() == 1


def test_the_page_the_buyer_comes_back_to_and_the_webhook_grant_one_lot(at_stripe):
    customer, pack = scene()
    session = start(customer, pack)
    at_stripe.pay(session.url)
    for _ in range(2):
        top_ups.fulfil(
            top_up_id=session.top_up_id, stripe_session_id=session.stripe_session_id, at=now()
        )
    deliver(at_stripe.events(COMPLETED)[0])
    act()
    assert len(lots(customer)) == 1


def test_seen_is_not_done_an_event_that_failed_is_acted_on_later(at_stripe):
    customer, pack = scene()
    at_stripe.pay(start(customer, pack).url)
    [event] = at_stripe.events(COMPLETED)
    deliver(event)
    at_stripe.fault(
        kind="status", status=500, path="^/v1/checkout/sessions/", method="GET", times=3
    )
    at = now()
    act(at)
    kept = StripeEvent.objects.get()
    assert kept.done_at is None
    assert "stripe_unavailable" in kept.error
    assert lots(customer) == []
    # Stripe sends it again, and again we know it already: our own sweep does the work.
    assert deliver(event).status_code == 200
    assert StripeEvent.objects.count() == 1
    for minutes in (1, 5, 10, 20):
        act(at + timedelta(minutes=minutes))
    kept.refresh_from_db()
    assert kept.done_at is not None
    assert len(lots(customer)) == 1


def test_an_impatient_buyer_who_clicks_twice_gets_one_session_and_pays_once(at_stripe):
    customer, pack = scene()
    key = uuid.uuid4()
    first = start(customer, pack, key=key)
    assert start(customer, pack, key=key) == first
    assert len(at_stripe.received("^/v1/checkout/sessions$")) == 1


@pytest.mark.parametrize("kind", ["reset_before", "reset_after_commit"])
def test_a_connection_that_breaks_while_the_session_is_opened_opens_one_session(at_stripe, kind):
    customer, pack = scene()
    key = uuid.uuid4()
    # The SDK's own three tries fail; the buyer clicks again.
    at_stripe.fault(kind=kind, path="^/v1/checkout/sessions$", times=3)
    with pytest.raises(StripeUnavailable):
        start(customer, pack, key=key)
    session = start(customer, pack, key=key)
    listed = at_stripe.api().v1.checkout.sessions.list({})
    assert [one.id for one in listed.data] == [session.stripe_session_id]


def test_the_same_key_for_another_pack_is_refused(at_stripe):
    customer, pack = scene()
    key = uuid.uuid4()
    start(customer, pack, key=key)
    other = builders.pack(
        builders.Shop(vendor=customer.vendor, unit_id=0, rate_card_id=0), tokens=7
    )
    with pytest.raises(KeyReused):
        start(customer, other, key=key)


def test_another_vendors_pack_is_not_for_sale(at_stripe):
    customer, _ = scene()
    _, foreign = scene()
    with pytest.raises(NotForSale):
        start(customer, foreign)
    assert not TopUp.objects.exists()


def test_a_payment_that_takes_days_grants_when_it_succeeds_and_not_before(at_stripe):
    customer, pack = scene()
    session = start(customer, pack)
    at_stripe.pay(session.url, way="bank_debit")
    deliver(at_stripe.events(COMPLETED)[0])
    act()
    assert state(session) == "processing"
    assert lots(customer) == []
    at_stripe.bank_answers(session_id=session.stripe_session_id, outcome="succeeded")
    for event in at_stripe.events("checkout.session.async_payment_succeeded"):
        deliver(event)
        deliver(event)
    act()
    assert state(session) == "granted"
    assert len(lots(customer)) == 1


def test_a_payment_that_fails_after_days_grants_nothing_and_says_so(at_stripe):
    customer, pack = scene()
    session = start(customer, pack)
    at_stripe.pay(session.url, way="bank_debit")
    at_stripe.bank_answers(session_id=session.stripe_session_id, outcome="failed")
    deliver(at_stripe.events("checkout.session.async_payment_failed")[0])
    act()
    assert state(session) == "failed"
    assert lots(customer) == []


def test_a_declined_card_grants_nothing_and_a_good_one_afterwards_grants_once(at_stripe):
    customer, pack = scene()
    session = start(customer, pack)
    at_stripe.pay(session.url, card="4000000000000002")
    top_ups.fulfil(top_up_id=session.top_up_id, at=now())
    assert state(session) == "pending"
    at_stripe.pay(session.url)
    top_ups.fulfil(top_up_id=session.top_up_id, at=now())
    assert len(lots(customer)) == 1


def test_a_payment_whose_webhook_never_came_is_found_and_granted_once(at_stripe):
    customer, pack = scene()
    session = start(customer, pack)
    at_stripe.pay(session.url)
    assert reconcile.reconcile(at=now()).top_ups_count == 0  # the webhook has its five minutes
    later = now() + timedelta(minutes=6)
    assert reconcile.reconcile(at=later).top_ups_count == 1
    assert len(lots(customer)) == 1
    assert reconcile.reconcile(at=later).top_ups_count == 0
    deliver(at_stripe.events(COMPLETED)[0])
    act()
    assert len(lots(customer)) == 1


def test_a_webhook_that_comes_before_the_session_is_written_down_grants_all_the_same(at_stripe):
    customer, pack = scene()
    # Stripe opens the session, and its answer never reaches us.
    at_stripe.fault(kind="reset_after_commit", path="^/v1/checkout/sessions$", times=3)
    with pytest.raises(StripeUnavailable):
        start(customer, pack)
    [opened] = at_stripe.api().v1.checkout.sessions.list({}).data
    at_stripe.pay(opened.url or "")
    deliver(at_stripe.events(COMPLETED)[0])
    act()
    assert len(lots(customer)) == 1
    # The outbox asks again, gets the answer of the first time, and finds all done.
    send_all(now() + timedelta(minutes=2))
    assert TopUpSession.objects.get().stripe_session_id == opened.id
    assert len(at_stripe.api().v1.checkout.sessions.list({}).data) == 1


def test_a_session_that_expired_grants_nothing(at_stripe):
    customer, pack = scene()
    session = start(customer, pack)
    at_stripe.advance(2 * 3600)
    deliver(at_stripe.events("checkout.session.expired")[0])
    act()
    assert state(session) == "expired"
    assert lots(customer) == []


def test_a_buyer_cannot_have_one_top_up_fulfilled_by_the_payment_of_another(at_stripe):
    customer, pack = scene()
    cheap = builders.pack(
        builders.Shop(vendor=customer.vendor, unit_id=0, rate_card_id=0), price=Money(1, "EUR")
    )
    paid = start(customer, cheap)
    at_stripe.pay(paid.url)
    dear = top_ups.begin(
        customer_id=customer.pk, pack_id=pack.pk, idempotency_key=uuid.uuid4(), at=now()
    )
    with pytest.raises(PaymentDoesNotMatch, match="client_reference_id"):
        top_ups.fulfil(top_up_id=dear.pk, stripe_session_id=paid.stripe_session_id, at=now())
    assert lots(customer) == []


def test_a_session_that_asked_for_less_than_the_price_grants_nothing(at_stripe):
    customer, pack = scene()
    send_all(now())
    customer.refresh_from_db()
    top_up = top_ups.begin(
        customer_id=customer.pk, pack_id=pack.pk, idempotency_key=uuid.uuid4(), at=now()
    )
    item = {"currency": "eur", "unit_amount": 100, "product_data": {"name": "A bargain"}}
    forged = at_stripe.api().v1.checkout.sessions.create(
        {
            "mode": "payment",
            "customer": customer.stripe_customer_id,
            "client_reference_id": str(top_up.pk),
            "line_items": [{"quantity": 1, "price_data": item}],
            "success_url": "https://example.com/",
        }
    )
    at_stripe.pay(forged.url or "")
    with pytest.raises(PaymentDoesNotMatch, match="amount_subtotal"):
        top_ups.fulfil(top_up_id=top_up.pk, stripe_session_id=forged.id, at=now())
    assert lots(customer) == []


def test_an_unknown_top_up_is_refused():
    with pytest.raises(UnknownTopUp):
        top_ups.fulfil(top_up_id=uuid.uuid4(), at=now())


def test_the_outbox_opens_the_session_if_the_buyers_request_died(at_stripe):
    customer, pack = scene()
    top_up = top_ups.begin(
        customer_id=customer.pk, pack_id=pack.pk, idempotency_key=uuid.uuid4(), at=now()
    )
    send_all(now())
    assert not TopUpSession.objects.exists(), "whoever began it has a minute to send it"
    send_all(now() + timedelta(minutes=1))
    assert TopUpSession.objects.get().top_up == top_up
    assert StripeCall.objects.filter(done_at__isnull=True).count() == 0
