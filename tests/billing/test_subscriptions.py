import uuid
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.db import IntegrityError, transaction
from djmoney.money import Money

from billing import catalog, closing, customers, subscriptions
from billing.errors import AlreadySubscribed, CustomerCodeTaken, InvalidInput, KeyReused
from billing.models import Customer, Invoice, InvoiceLine, Period, Subscription
from ledger import queries
from ledger.catalog import NewRate, publish_rate_card
from ledger.value import Tiers
from tests import builders
from tests.builders import DAY, NOVEMBER, OCTOBER, TOKEN

pytestmark = pytest.mark.django_db


def scene(**changed):
    shop = builders.shop()
    return builders.customer(shop), builders.plan_version(shop, **changed)


def lots(customer):
    return [lot for lot in queries.lots(account_ids=[customer.account_id]) if lot.kind != "debt"]


def test_subscribing_opens_the_first_period_and_invoices_it():
    customer, version = scene(**builders.billed())
    subscription = builders.subscription(customer, version)

    [period] = subscription.periods.all()
    assert (period.starts_at, period.ends_at) == (OCTOBER, NOVEMBER)
    allotment, overage = sorted(lots(customer), key=lambda lot: lot.kind, reverse=True)
    assert (allotment.id, overage.id) == (period.allotment_lot_id, period.overage_lot_id)
    assert allotment.granted_microtokens == 1_000 * TOKEN
    assert allotment.price_micros == 1_000_000_000
    assert (allotment.effective_at, allotment.expires_at) == (OCTOBER, NOVEMBER)
    assert allotment.closes_at == NOVEMBER + DAY
    assert overage.tiers == Tiers(steps=builders.TIERS)

    [invoice] = Invoice.objects.all()
    assert [(line.kind, line.amount) for line in invoice.lines.all()] == [
        ("platform_fee", Money(500, "EUR")),
        ("allotment", Money(1_000, "EUR")),
    ]


def test_the_same_key_subscribes_once_and_another_request_under_it_is_refused():
    customer, version = scene()
    key = uuid.uuid4()
    facts = {
        "customer_id": customer.pk,
        "starts_at": OCTOBER,
        "idempotency_key": key,
        "at": OCTOBER,
    }
    first = subscriptions.subscribe(plan_version_id=version.pk, **facts)
    assert subscriptions.subscribe(plan_version_id=version.pk, **facts) == first
    seller = builders.Shop(
        vendor=customer.vendor, unit_id=version.unit_id, rate_card_id=version.rate_card_id
    )
    other = builders.publish(
        catalog.draft(plan_id=version.plan_id, terms=builders.terms(seller)), at=OCTOBER
    )
    with pytest.raises(KeyReused):
        subscriptions.subscribe(plan_version_id=other.pk, **facts)
    with pytest.raises(KeyReused):
        subscriptions.subscribe(plan_version_id=version.pk, **facts | {"starts_at": NOVEMBER})
    assert Subscription.objects.count() == Period.objects.count() == 1


def test_the_next_allotment_comes_a_little_ahead_and_once_however_often_it_is_asked_for():
    customer, version = scene()
    subscription = builders.subscription(customer, version)
    assert subscriptions.renew_due(at=NOVEMBER - timedelta(seconds=61)) == 0
    ahead = NOVEMBER - timedelta(seconds=60)
    assert subscriptions.renew_due(at=ahead) == 1
    assert subscriptions.renew_due(at=ahead) == 0
    assert subscriptions.renew_due(at=NOVEMBER) == 0
    assert subscriptions.renew(subscription_id=subscription.pk, at=NOVEMBER) == 0
    granted = [lot for lot in lots(customer) if lot.source == "allotment"]
    assert [lot.effective_at for lot in granted] == [OCTOBER, NOVEMBER]
    at_midnight = queries.balances(account_ids=[customer.account_id], at=NOVEMBER)
    assert at_midnight[customer.account_id].available_microtokens == 1_000 * TOKEN


def test_what_was_missed_while_nothing_ran_is_caught_up_once():
    customer, version = scene()
    builders.subscription(customer, version)
    late = datetime(2027, 1, 3, tzinfo=UTC)
    assert subscriptions.renew_due(at=late) == 3
    assert subscriptions.renew_due(at=late) == 0
    assert [period.number for period in Period.objects.order_by("starts_at")] == [1, 2, 3, 4]
    assert len([lot for lot in lots(customer) if lot.source == "allotment"]) == 4


def test_an_allotment_adds_to_what_is_there_and_never_lowers_it():
    customer, version = scene(rollover_basis_points=10_000)
    builders.subscription(customer, version)
    subscriptions.renew_due(at=NOVEMBER)
    # October's 1,000 are still there for October's late runs, November's 1,000 are new.
    assert sum(lot.remaining_microtokens for lot in lots(customer)) == 2_000 * TOKEN


def test_publishing_or_retiring_a_version_leaves_lots_and_subscriptions_alone():
    customer, version = scene()
    subscription = builders.subscription(customer, version)
    before = lots(customer)
    catalog.retire(version_id=version.pk, at=OCTOBER + DAY)
    assert lots(customer) == before
    assert subscriptions.renew_due(at=NOVEMBER) == 1
    assert subscription.periods.count() == 2


def test_a_period_in_tokyo_begins_at_the_customers_midnight():
    shop = builders.shop()
    customer = builders.customer(shop, time_zone="Asia/Tokyo")
    start = datetime(2026, 10, 1, tzinfo=ZoneInfo("Asia/Tokyo"))
    subscription = builders.subscription(customer, builders.plan_version(shop), starts_at=start)
    [period] = subscription.periods.all()
    assert period.starts_at == datetime(2026, 9, 30, 15, tzinfo=UTC)
    assert period.ends_at == datetime(2026, 10, 31, 15, tzinfo=UTC)


def test_moving_the_customer_to_another_time_zone_does_not_move_its_periods():
    customer, version = scene()
    builders.subscription(customer, version)
    Customer.objects.filter(pk=customer.pk).update(time_zone="Asia/Tokyo")
    subscriptions.renew_due(at=NOVEMBER)
    assert Period.objects.get(number=2).starts_at == NOVEMBER


def test_a_cancelled_subscription_runs_to_its_periods_end_and_no_further():
    customer, version = scene()
    subscription = builders.subscription(customer, version)
    subscriptions.cancel(subscription_id=subscription.pk, at=OCTOBER + DAY)
    subscriptions.cancel(subscription_id=subscription.pk, at=OCTOBER + 2 * DAY)
    subscription.refresh_from_db()
    assert subscription.cancelled_at == OCTOBER + DAY
    assert subscriptions.renew_due(at=NOVEMBER) == 0
    assert subscription.periods.count() == 1


def test_a_period_that_began_before_the_cancelling_is_opened_by_it_and_no_other():
    customer, version = scene()
    subscription = builders.subscription(customer, version)
    subscriptions.cancel(subscription_id=subscription.pk, at=NOVEMBER + DAY)
    assert subscription.periods.count() == 2
    assert subscriptions.runs_until(subscription=subscription) == datetime(2026, 12, 1, tzinfo=UTC)
    assert subscriptions.renew_due(at=NOVEMBER + 60 * DAY) == 0
    assert subscription.periods.count() == 2


@pytest.mark.parametrize(
    ("renewed", "cancelled", "months"),
    [
        (timedelta(minutes=50), timedelta(minutes=30), 1),
        (timedelta(seconds=61), timedelta(seconds=60), 1),
        (timedelta(seconds=60), timedelta(seconds=30), 2),
        (timedelta(seconds=61), timedelta(0), 1),
        (timedelta(seconds=61), timedelta(seconds=-1), 2),
    ],
)
def test_a_cancelled_subscription_is_invoiced_for_what_was_open_and_nothing_after(
    renewed, cancelled, months
):
    """`renewed` and `cancelled` are so long before the second month begins."""
    customer, version = scene()
    subscription = builders.subscription(customer, version)
    subscriptions.renew_due(at=NOVEMBER - renewed)
    subscriptions.cancel(subscription_id=subscription.pk, at=NOVEMBER - cancelled)
    end = [NOVEMBER, datetime(2026, 12, 1, tzinfo=UTC)][months - 1]
    assert subscriptions.runs_until(subscription=subscription) == end
    closing.close_due(at=NOVEMBER + 90 * DAY)
    fees = InvoiceLine.objects.filter(kind="platform_fee")
    assert fees.count() == subscription.periods.count() == months


def test_a_subscription_cancelled_before_it_starts_never_begins():
    customer, version = scene()
    subscription = builders.subscription(customer, version, starts_at=NOVEMBER, at=OCTOBER)
    subscriptions.cancel(subscription_id=subscription.pk, at=OCTOBER + DAY)
    assert subscriptions.runs_until(subscription=subscription) is None
    assert subscriptions.renew_due(at=NOVEMBER + DAY) == 0
    assert not Invoice.objects.exists()


def test_a_customer_has_one_subscription_at_a_time():
    customer, version = scene()
    subscription = builders.subscription(customer, version)
    with pytest.raises(AlreadySubscribed):
        builders.subscription(customer, version, starts_at=NOVEMBER)
    subscriptions.cancel(subscription_id=subscription.pk, at=OCTOBER + DAY)
    with pytest.raises(AlreadySubscribed, match="until 2026-11-01"):
        builders.subscription(customer, version, starts_at=NOVEMBER - DAY)
    builders.subscription(customer, version, starts_at=NOVEMBER)
    assert Period.objects.count() == 2


def test_a_subscription_that_starts_later_opens_nothing_before():
    customer, version = scene()
    subscription = builders.subscription(customer, version, starts_at=NOVEMBER, at=OCTOBER)
    for early in (NOVEMBER - timedelta(hours=2), NOVEMBER - timedelta(minutes=61)):
        assert subscriptions.renew(subscription_id=subscription.pk, at=early) == 0
    assert not Period.objects.exists()
    assert subscriptions.renew_due(at=NOVEMBER) == 1


def test_a_plan_priced_by_another_rate_card_than_the_account_is_refused():
    shop = builders.shop()
    customer = builders.customer(shop)
    card = publish_rate_card(
        book_id=shop.vendor.book_id,
        unit_id=shop.unit_id,
        code="other",
        name="Other",
        effective_at=builders.OPENED,
        rates=[NewRate(meter="executions")],
        at=builders.OPENED,
    )
    version = builders.plan_version(shop, rate_card_id=card)
    with pytest.raises(InvalidInput, match="another rate card"):
        builders.subscription(customer, version)


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"currency": "XYZ"}, "currency"),
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"payment_days": 0}, "payment_days"),
        ({"code": " ", "name": "A"}, "code"),
        ({"name": ""}, "name"),
        ({"name": "Two\nlines"}, "name"),
        ({"code": "a\x00b", "name": "A"}, "code"),
        ({"rate_card_id": 0}, "rate_card_id"),
    ],
)
def test_a_customer_that_breaks_a_rule_is_refused_at_the_field(changed, field):
    with pytest.raises(InvalidInput) as refusal:
        builders.customer(builders.shop(), **changed)
    assert [fault.field for fault in refusal.value.faults] == [field]


def test_a_customer_is_not_priced_by_another_vendors_rate_card():
    with pytest.raises(InvalidInput) as refusal:
        builders.customer(builders.shop(), rate_card_id=builders.shop().rate_card_id)
    assert [fault.field for fault in refusal.value.faults] == ["rate_card_id"]


def test_a_vendors_name_is_one_line():
    with pytest.raises(InvalidInput, match="one line"):
        customers.open_vendor(code="acme", name="Two\r\nlines", at=OCTOBER)


def test_opening_a_customer_again_gives_the_same_one_and_other_facts_are_refused():
    shop = builders.shop()
    first = builders.customer(shop, code="acme")
    assert builders.customer(shop, code="acme") == first
    with pytest.raises(CustomerCodeTaken):
        builders.customer(shop, code="acme", currency="USD")


def test_facts_stand_even_against_sql():
    customer, version = scene()
    subscription = builders.subscription(customer, version)
    for change in (
        lambda: Period.objects.update(ends_at=NOVEMBER + DAY),
        lambda: Period.objects.all()._raw_delete("default"),
        lambda: Invoice.objects.update(currency="USD"),
        lambda: Invoice.objects.get().lines.update(micros=0),
        lambda: Subscription.objects.update(starts_at=NOVEMBER),
        lambda: Customer.objects.update(account_id=7),
    ):
        with pytest.raises(IntegrityError, match="is forbidden"), transaction.atomic():
            change()
    assert subscription.periods.get().ends_at == NOVEMBER
