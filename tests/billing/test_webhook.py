"""The webhook's view: what is let in, what is not, and how it is kept."""

import json
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import stripe
from django.db import connections
from django.test import Client

from billing import top_ups
from billing.models import StripeEvent, TopUpFulfilment
from billing.stripe import checkout, gateway, inbox, simulator
from ledger import queries
from tests import builders
from tests.billing.stripe_world import WEBHOOK, WEBHOOK_SECRET, StripeWorld, deliver


@pytest.fixture(autouse=True)
def secret(settings):
    settings.STRIPE_WEBHOOK_SECRETS = [WEBHOOK_SECRET]


def event(**changed):
    about = {"object": "checkout.session", "id": "cs_1", "metadata": {}}
    facts = {
        "id": f"evt_{uuid.uuid4().hex}",
        "object": "event",
        "type": "checkout.session.completed",
        "livemode": False,
        "created": int(time.time()),
        "api_version": gateway.API_VERSION,
        "data": {"object": about},
    }
    return facts | changed


def test_our_api_version_is_the_sdks():
    assert stripe.api_version == gateway.API_VERSION


@pytest.mark.django_db
def test_an_event_is_kept_exactly_as_it_was_signed_and_once():
    sent = event()
    assert [deliver(sent).status_code for _ in range(3)] == [200, 200, 200]
    kept = StripeEvent.objects.get()
    assert json.loads(kept.payload) == sent
    assert (kept.type, kept.object_id) == ("checkout.session.completed", "cs_1")


@pytest.mark.django_db
@pytest.mark.parametrize(
    "spoil",
    [
        {"secret": "whsec_of_somebody_else"},
        {"signed_at": int(time.time()) - 3600},
    ],
)
def test_what_stripe_has_not_signed_just_now_is_refused_and_not_kept(spoil):
    answer = deliver(event(), **spoil)
    assert answer.status_code == 400
    assert b"not signed with a secret of ours" in answer.content
    assert not StripeEvent.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("header", [None, "", "t=1,v1=0", "rubbish"])
def test_a_missing_or_broken_signature_is_refused(header):
    headers = {} if header is None else {"Stripe-Signature": header}
    answer = Client().post(WEBHOOK, b"{}", content_type="application/json", headers=headers)
    assert answer.status_code == 400
    assert not StripeEvent.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("body", [{}, [], {"id": "evt_1"}, event(data={})])
def test_a_signed_body_that_is_no_event_is_refused(body):
    assert deliver(body).status_code == 400
    assert not StripeEvent.objects.exists()


@pytest.mark.django_db
def test_either_of_two_secrets_is_accepted_while_one_is_replaced(settings):
    settings.STRIPE_WEBHOOK_SECRETS = ["whsec_new", "whsec_old"]
    assert deliver(event(), secret="whsec_old").status_code == 200
    assert deliver(event(), secret="whsec_new").status_code == 200
    assert StripeEvent.objects.count() == 2


@pytest.mark.django_db
def test_without_a_secret_nothing_is_accepted(settings):
    settings.STRIPE_WEBHOOK_SECRETS = []
    assert deliver(event()).status_code == 503
    settings.STRIPE_WEBHOOK_SECRETS = [""]
    assert deliver(event(), secret="").status_code == 503


@pytest.mark.django_db
def test_only_posts_are_answered_and_only_of_a_reasonable_size():
    assert Client().get(WEBHOOK).status_code == 405
    huge = Client().post(WEBHOOK, b"x" * (1024 * 1024 + 1), content_type="application/json")
    assert huge.status_code == 413


@pytest.mark.django_db
@pytest.mark.parametrize(
    "changed", [{"livemode": True}, {"account": "acct_1"}, {"type": "charge.succeeded"}]
)
def test_events_that_do_not_concern_us_are_kept_and_ignored(changed):
    assert deliver(event(**changed)).status_code == 200
    assert StripeEvent.objects.get().ignored_at is not None


@pytest.mark.django_db
def test_an_event_about_something_not_written_down_yet_waits_an_hour_and_is_then_let_go():
    about = {
        "object": "checkout.session",
        "id": "cs_1",
        "metadata": {"top_up_id": str(uuid.uuid4()), "env": "development"},
    }
    deliver(event(data={"object": about}))
    at = datetime.now(UTC)
    inbox.act_on_due(at=at)
    kept = StripeEvent.objects.get()
    assert (kept.done_at, kept.ignored_at) == (None, None)
    assert kept.error.startswith("not_ours_yet")
    inbox.act_on_due(at=at + timedelta(hours=2))
    kept.refresh_from_db()
    assert kept.ignored_at is not None


@pytest.mark.django_db
def test_an_event_of_another_installation_on_the_same_account_is_ignored():
    about = {
        "object": "checkout.session",
        "id": "cs_1",
        "metadata": {"top_up_id": str(uuid.uuid4()), "env": "production"},
    }
    deliver(event(data={"object": about}))
    inbox.act_on_due(at=datetime.now(UTC))
    assert StripeEvent.objects.get().ignored_at is not None


@pytest.mark.django_db
def test_a_worker_that_died_on_an_event_leaves_it_to_the_next():
    deliver(event())
    at = datetime.now(UTC)
    StripeEvent.objects.update(leased_until=at + inbox.LEASE)
    inbox.act_on_due(at=at)
    assert StripeEvent.objects.get().ignored_at is None
    inbox.act_on_due(at=at + inbox.LEASE)
    assert StripeEvent.objects.get().ignored_at is not None


def bought(at_stripe):
    shop = builders.shop()
    customer = builders.customer(shop, stripe_payment_method_id="")
    session = checkout.start(
        customer_id=customer.pk,
        pack_id=builders.pack(shop).pk,
        idempotency_key=uuid.uuid4(),
        at=datetime.now(UTC),
    )
    at_stripe.pay(session.url)
    return customer, session


def top_up_lots(customer):
    found = queries.lots(account_ids=[customer.account_id])
    return [lot for lot in found if lot.source == "top_up"]


def in_a_thread(work):
    try:
        return work()
    finally:
        connections.close_all()


@pytest.mark.django_db(transaction=True)
def test_ten_deliveries_and_ten_buyers_pages_at_once_grant_one_lot(at_stripe):
    customer, session = bought(at_stripe)
    events = at_stripe.events("checkout.session.completed", "payment_intent.succeeded")

    def delivery(number):
        deliver(events[number % len(events)])
        inbox.act_on_due(at=datetime.now(UTC))

    def landing(_):
        top_ups.fulfil(top_up_id=session.top_up_id, at=datetime.now(UTC))

    with ThreadPoolExecutor(10) as pool:
        work = [delivery, landing] * 10
        done = [
            pool.submit(in_a_thread, lambda one=one, number=number: one(number))
            for number, one in enumerate(work)
        ]
        for one in done:
            one.result()
    # Whoever was overtaken is tried again.
    inbox.act_on_due(at=datetime.now(UTC) + timedelta(hours=1))
    assert len(top_up_lots(customer)) == 1
    assert TopUpFulfilment.objects.count() == 1
    assert not StripeEvent.objects.filter(done_at__isnull=True).exists()


@pytest.mark.django_db(transaction=True)
def test_stripe_delivers_over_http_doubled_and_disordered_and_one_lot_is_granted(
    live_server, settings, tmp_path
):
    settings.STRIPE_SECRET_KEY = "sk_test_of_the_tests"
    with simulator.running(
        home=tmp_path / "stripe",
        webhook_url=live_server.url + WEBHOOK,
        webhook_secret=WEBHOOK_SECRET,
    ) as address:
        settings.STRIPE_API_BASE = address
        at_stripe = StripeWorld(address)
        at_stripe.fault(kind="webhook_duplicate", times=50)
        at_stripe.fault(kind="webhook_shuffle", times=4)
        customer, _ = bought(at_stripe)
        wanted = {"checkout.session.completed", "payment_intent.succeeded"}
        assert acted_on(within_seconds=20, until=wanted) == wanted
        assert len(top_up_lots(customer)) == 1


def acted_on(*, within_seconds, until):
    """The types of the events that are done, once they are all there."""
    deadline = time.monotonic() + within_seconds
    while True:
        inbox.act_on_due(at=datetime.now(UTC) + timedelta(minutes=2))
        done = StripeEvent.objects.filter(done_at__isnull=False).values_list("type", flat=True)
        if set(done) >= until or time.monotonic() > deadline:
            return set(done)
        time.sleep(0.1)
