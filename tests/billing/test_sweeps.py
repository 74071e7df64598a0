"""What cannot be done stands in nobody's way, and what waits for ever ends somewhere."""

from datetime import UTC, datetime, timedelta

import pytest
from django.core import mail as mailbox
from django.db import connection

from billing import alerts, closing, mail, subscriptions, sweeps
from billing.models import (
    AlertMessage,
    Customer,
    Invoice,
    Period,
    PeriodClosing,
    StripeCall,
    StripeEvent,
)
from billing.stripe import gateway, inbox, outbox
from ledger import grants
from tests import builders
from tests.builders import DAY, NOVEMBER, OCTOBER, TOKEN

CLOSING = NOVEMBER + DAY
HOUR = timedelta(hours=1)


def scene(customers_count):
    shop = builders.shop()
    customers = [builders.customer(shop) for _ in range(customers_count)]
    version = builders.plan_version(shop)
    return customers, [builders.subscription(customer, version) for customer in customers]


def spoil(subscription):
    """The key of its next allotment has been used for something else: it can never be opened."""
    grants.grant(
        account_id=subscription.customer.account_id,
        microtokens=TOKEN,
        source="bonus",
        price_micros=0,
        currency="EUR",
        priority=50,
        effective_at=OCTOBER,
        expires_at=None,
        idempotency_key=f"subscription:{subscription.pk}:2:allotment",
        at=OCTOBER,
    )


def fail(number):
    if number % 2:
        raise ValueError(number)
    return 1


def test_items_that_fail_neither_stop_a_sweep_nor_use_up_its_limit(db):
    failed = []

    def note(number, error):
        failed.append(number)
        return 0

    total = sweeps.each(range(1, 100), fail, what="number", items_max=3, otherwise=note)
    assert (total, failed) == (3, [1, 3, 5])


def test_a_sweep_that_has_lasted_long_enough_begins_nothing_more(db):
    assert sweeps.each(range(0, 10, 2), fail, what="number", items_max=9, lasts_max=HOUR) == 5
    longer_ago = timedelta(seconds=-1)
    assert sweeps.each(range(0, 10, 2), fail, what="number", items_max=9, lasts_max=longer_ago) == 0


@pytest.mark.django_db
def test_a_period_that_cannot_be_closed_or_opened_starves_no_other(monkeypatch):
    monkeypatch.setattr(closing, "PERIODS_PER_SWEEP_MAX", 1)
    monkeypatch.setattr(subscriptions, "SUBSCRIPTIONS_PER_SWEEP_MAX", 1)
    _, [first, second, third] = scene(3)
    spoil(first)
    assert subscriptions.renew_due(at=NOVEMBER) == 1
    assert subscriptions.renew_due(at=NOVEMBER) == 1
    assert subscriptions.renew_due(at=NOVEMBER) == 0
    assert closing.close_due(at=CLOSING) == 1
    assert closing.close_due(at=CLOSING) == 1
    assert closing.close_due(at=CLOSING) == 0
    closed = PeriodClosing.objects.values_list("period__subscription", flat=True)
    assert set(closed) == {second.pk, third.pk}
    assert Period.objects.filter(subscription=first).count() == 1


@pytest.mark.django_db
def test_a_period_whose_alerts_cannot_be_told_keeps_nobody_elses_back():
    customers, [first, _] = scene(2)
    for customer in customers:
        builders.use(customer, 900, occurred_at=OCTOBER + DAY)
    with connection.cursor() as cursor:
        refused = first.periods.get().pk
        cursor.execute(f"ALTER TABLE billing_alertmessage ADD CHECK (period_id <> {refused})")
    assert alerts.evaluate(at=OCTOBER + 2 * DAY) == 1


@pytest.mark.django_db
def test_an_event_that_nobody_can_read_is_parked_in_the_end_and_others_are_acted_on():
    now = datetime.now(UTC)
    for number, payload in enumerate(["no json", '{"id": "evt_1"}', "{}"]):
        StripeEvent.objects.create(
            event_id=f"evt_{number}",
            type="invoice.paid",
            livemode=False,
            source="webhook",
            payload=payload,
            stripe_created_at=now,
            received_at=now,
        )
    assert inbox.act_on_due(at=now) == 3
    assert inbox.act_on_due(at=now) == 0
    for hours in range(1, inbox.TRIES_MAX):
        inbox.act_on_due(at=now + 2 * hours * HOUR)
    assert inbox.act_on_due(at=now + 100 * HOUR) == 0
    parked = StripeEvent.objects.filter(parked_at__isnull=False, error__startswith="unexpected")
    assert parked.count() == 3


@pytest.mark.django_db
def test_a_call_that_nobody_can_make_is_parked_in_the_end_and_others_are_sent(at_stripe):
    now = datetime.now(UTC)
    [customer], _ = scene(1)
    impossible = StripeCall.objects.create(
        operation="nonsense",
        aggregate_id=customer.reference,
        idempotency_key="nonsense",
        params={},
        created_at=now,
    )
    StripeCall.objects.exclude(pk=impossible.pk).update(next_try_at=now + timedelta(seconds=1))
    outbox.send_due(at=now)
    impossible.refresh_from_db()
    assert (impossible.tries, impossible.error_code) == (1, outbox.UNEXPECTED)
    outbox.send_due(at=now + timedelta(seconds=2))
    assert Invoice.objects.filter(payment__isnull=False).exists()
    for hours in range(1, outbox.TRIES_MAX):
        outbox.send_due(at=now + hours * HOUR)
    impossible.refresh_from_db()
    assert impossible.parked_at is not None
    assert not outbox.waiting().exists()


@pytest.mark.django_db
def test_leases_still_hold_when_a_sweeps_last_item_begins(at_stripe, monkeypatch):
    scene(2)
    takes = timedelta(seconds=gateway.ANSWER_SECONDS_MAX + gateway.CONNECT_SECONDS_MAX)
    tries = 1 + gateway.SDK_RETRIES
    assert outbox.SWEEP_LASTS_MAX + 2 * tries * takes < outbox.LEASE
    assert inbox.SWEEP_LASTS_MAX + tries * takes < inbox.LEASE
    monkeypatch.setattr(outbox, "SWEEP_LASTS_MAX", timedelta(0))
    assert outbox.send_due(at=datetime.now(UTC)) <= 1


@pytest.mark.django_db
def test_mail_that_no_server_takes_is_tried_for_days_and_then_parked(settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9
    at = told()
    assert mail.send_due(at=at) == 0
    assert mail.send_due(at=at) == 0
    message = AlertMessage.objects.get()
    assert (message.tries, message.next_try_at) == (1, at + timedelta(minutes=1))
    assert "refused" in message.error
    for hours in range(1, 200):
        mail.send_due(at=at + hours * HOUR)
    message.refresh_from_db()
    assert message.tries == mail.TRIES_MAX
    assert message.parked_at is not None
    assert message.parked_at - at > 2 * DAY


@pytest.mark.django_db
def test_a_name_that_no_mail_can_carry_delays_its_own_mail_only():
    at = told()
    told()
    first = AlertMessage.objects.order_by("id")[0]
    buyer = first.period.subscription.customer
    Customer.objects.filter(pk=buyer.pk).update(name="Two\nlines")
    assert mail.send_due(at=at) == 1
    Customer.objects.filter(pk=buyer.pk).update(name="One line")
    assert mail.send_due(at=at + HOUR) == 1
    assert len(mailbox.outbox) == 2


def told():
    """An alert has been raised; when."""
    [customer], _ = scene(1)
    builders.use(customer, 900, occurred_at=OCTOBER + DAY)
    assert alerts.evaluate(at=OCTOBER + 2 * DAY) == 1
    return OCTOBER + 2 * DAY
