import uuid
from datetime import timedelta

import pytest
from django.core import mail as outbox

from billing import alerts, closing, mail, subscriptions
from billing.models import Alert, AlertMessage, TopUp, TopUpFulfilment
from ledger import grants
from tests import builders
from tests.builders import DAY, NOVEMBER, OCTOBER, TOKEN

pytestmark = pytest.mark.django_db

MID = OCTOBER + 10 * DAY
CLOSING = NOVEMBER + DAY
MINUTE = timedelta(minutes=1)


def scene(**changed):
    shop = builders.shop()
    manager = builders.employee(shop, role="account_manager")
    customer = builders.customer(shop, account_manager=manager)
    builders.buyer(customer)
    builders.subscription(customer, builders.plan_version(shop, **changed))
    return customer


def top_up(customer, tokens, *, at):
    """A top-up that was paid, without Stripe."""
    pack = builders.pack(
        builders.Shop(vendor=customer.vendor, unit_id=0, rate_card_id=0), tokens=tokens
    )
    bought = TopUp.objects.create(
        id=uuid.uuid4(),
        customer=customer,
        pack=pack,
        microtokens=pack.microtokens,
        price=builders.PACK_PRICE,
        validity_months=12,
        begun_at=at,
    )
    granted = grants.grant(
        account_id=customer.account_id,
        microtokens=pack.microtokens,
        source="top_up",
        price_micros=0,
        currency="EUR",
        priority=50,
        effective_at=at,
        expires_at=at + 365 * DAY,
        idempotency_key=f"top_up:{bought.pk}",
        at=at,
    )
    TopUpFulfilment.objects.create(top_up=bought, lot_id=granted.lot_id, fulfilled_at=at)


def raised():
    return sorted(Alert.objects.values_list("threshold", flat=True))


@pytest.mark.parametrize(
    ("tokens", "thresholds"), [(699, []), (700, [70]), (899, [70]), (900, [70, 90])]
)
def test_a_threshold_is_reached_exactly(tokens, thresholds):
    customer = scene()
    builders.use(customer, tokens, occurred_at=MID)
    alerts.evaluate(at=MID)
    assert raised() == thresholds


def test_one_jump_over_three_thresholds_is_one_message_that_names_the_highest():
    customer = scene()
    builders.use(customer, 1_200, occurred_at=MID)
    assert alerts.evaluate(at=MID) == 1
    message = AlertMessage.objects.get()
    assert message.threshold == 100
    assert raised() == [70, 90, 100]
    assert (message.used_microtokens, message.granted_microtokens) == (1_000 * TOKEN, 1_000 * TOKEN)


def test_each_threshold_is_raised_once_a_period_however_often_one_looks():
    customer = scene()
    for tokens, expected in ((750, 1), (10, 0), (150, 1), (20, 0), (100, 1), (100, 0)):
        builders.use(customer, tokens, occurred_at=MID)
        assert alerts.evaluate(at=MID) == expected
        assert alerts.evaluate(at=MID + MINUTE) == 0
    assert [message.threshold for message in AlertMessage.objects.order_by("id")] == [70, 90, 100]


def test_what_expires_and_rolls_over_is_not_used():
    """The ledger's own sweep may close the lot before billing settles the period."""
    customer = scene()
    builders.use(customer, 699, occurred_at=MID)
    assert grants.expire_due(at=CLOSING) == 1
    assert alerts.evaluate(at=CLOSING) == 0
    closing.close_due(at=CLOSING)
    assert raised() == []


def test_what_repaid_a_debt_is_used():
    customer = scene()
    builders.use(customer, 1_700, occurred_at=MID)
    november = MID + 31 * DAY
    subscriptions.renew_due(at=november)
    alerts.evaluate(at=november)
    told = AlertMessage.objects.get(period__number=2)
    assert (told.threshold, told.used_microtokens) == (70, 700 * TOKEN)


def test_a_late_batch_that_only_the_closing_debits_raises_its_alert():
    customer = scene()
    builders.accept(customer, builders.new_run(customer, 900, occurred_at=MID), at=CLOSING)
    closing.close_due(at=CLOSING)
    message = AlertMessage.objects.get()
    assert (message.threshold, message.used_microtokens) == (90, 900 * TOKEN)


def test_the_next_period_raises_its_own():
    customer = scene()
    builders.use(customer, 1_000, occurred_at=MID)
    alerts.evaluate(at=MID)
    november = MID + 31 * DAY
    subscriptions.renew_due(at=november)
    builders.use(customer, 700, occurred_at=november)
    alerts.evaluate(at=november)
    assert raised() == [70, 70, 90, 100]


def test_a_top_up_that_brings_the_share_below_a_threshold_arms_it_again():
    customer = scene()
    builders.use(customer, 950, occurred_at=MID)
    alerts.evaluate(at=MID)
    top_up(customer, 500, at=MID + MINUTE)
    # 950 of 1,500 is 63 %: both are armed again, and nothing is said.
    assert alerts.evaluate(at=MID + 2 * MINUTE) == 0
    assert Alert.objects.filter(rearmed_at__isnull=False).count() == 2
    builders.use(customer, 99, occurred_at=MID + 2 * MINUTE)
    assert alerts.evaluate(at=MID + 3 * MINUTE) == 0
    builders.use(customer, 1, occurred_at=MID + 3 * MINUTE)
    assert alerts.evaluate(at=MID + 4 * MINUTE) == 1
    message = AlertMessage.objects.order_by("-id")[0]
    assert (message.threshold, message.used_microtokens) == (70, 1_050 * TOKEN)
    assert message.granted_microtokens == 1_500 * TOKEN


def test_a_top_up_too_small_to_matter_arms_nothing():
    customer = scene()
    builders.use(customer, 950, occurred_at=MID)
    alerts.evaluate(at=MID)
    top_up(customer, 10, at=MID + MINUTE)
    assert alerts.evaluate(at=MID + 2 * MINUTE) == 0
    assert not Alert.objects.filter(rearmed_at__isnull=False).exists()


def test_a_top_up_bought_before_any_alert_does_not_hide_that_the_allotment_is_used():
    customer = scene()
    top_up(customer, 5_000, at=OCTOBER + DAY)
    builders.use(customer, 700, occurred_at=MID)
    assert alerts.evaluate(at=MID) == 1


def test_a_plan_without_thresholds_or_without_an_allotment_raises_nothing():
    silent = scene(alert_thresholds=())
    builders.use(silent, 1_000, occurred_at=MID)
    assert alerts.evaluate(at=MID) == 0


def test_a_message_is_mailed_once_to_the_buyers_and_their_account_manager():
    customer = scene()
    builders.use(customer, 900, occurred_at=MID)
    alerts.evaluate(at=MID)
    assert mail.send_due(at=MID) == 1
    assert mail.send_due(at=MID + DAY) == 0
    [sent] = outbox.outbox
    assert sent.subject == f"{customer}: 90 % of the tokens are used"
    assert "has used 900 tokens of 1,000 tokens" in sent.body
    assert "ends on 1 November 2026" in sent.body
    assert customer.account_manager is not None
    assert {customer.email, customer.account_manager.email} < set(sent.to)
    assert AlertMessage.objects.get().sent_at == MID


def test_a_worker_that_died_while_mailing_leaves_it_to_be_sent_under_the_same_id():
    customer = scene()
    builders.use(customer, 900, occurred_at=MID)
    alerts.evaluate(at=MID)
    AlertMessage.objects.update(leased_until=MID + mail.LEASE)
    assert mail.send_due(at=MID + MINUTE) == 0
    assert mail.send_due(at=MID + mail.LEASE) == 1
    message = AlertMessage.objects.get()
    assert outbox.outbox[0].extra_headers["Message-ID"].startswith(f"<alert-{message.pk}@")


def test_acknowledging_says_who_and_when_and_only_the_first_counts():
    customer = scene()
    builders.use(customer, 900, occurred_at=MID)
    alerts.evaluate(at=MID)
    message = AlertMessage.objects.get()
    manager = customer.account_manager
    first = alerts.acknowledge(message_id=message.pk, user=manager, at=MID)
    again = alerts.acknowledge(message_id=message.pk, user=builders.person(), at=MID + DAY)
    assert (again.acknowledged_by, again.acknowledged_at) == (manager, MID)
    assert first == again
