"""The next invoice can be seen at any moment, and is what is then built, to the cent."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from djmoney.money import Money
from hypothesis import given, settings
from hypothesis import strategies as st

from billing import closing, previews, subscriptions
from billing.models import Invoice, PeriodClosing
from ledger import debiting
from ledger.value import Tier
from tests import builders
from tests.builders import DAY, NOVEMBER, OCTOBER, TOKEN

pytestmark = pytest.mark.django_db

CLOSING = NOVEMBER + DAY
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)
MID = OCTOBER + 15 * DAY


def scene(*, starts_at=OCTOBER, at=None, **changed):
    shop = builders.shop()
    customer = builders.customer(shop)
    version = builders.plan_version(shop, **changed)
    builders.subscription(customer, version, starts_at=starts_at, at=at)
    return customer


def shown(customer, at):
    return [(line.kind, line.amount) for line in preview(customer, at).lines]


def preview(customer, at):
    found = previews.next_invoice(customer=customer, at=at)
    assert found is not None
    return found


def said(lines):
    """Everything that a line says, but of which rows it is."""
    return [
        (
            line.position,
            line.kind,
            line.period.number,
            line.description,
            line.microtokens,
            line.from_microtokens,
            line.to_microtokens,
            line.micros,
            line.covered_micros,
            line.amount,
            line.carried_from_id,
        )
        for line in lines
    ]


def test_in_the_middle_of_a_period_it_tells_what_is_used_so_far_and_the_next_period():
    customer = scene(**builders.billed())
    builders.use(customer, 1_251, occurred_at=MID)
    found = preview(customer, MID)
    assert [(line.kind, line.amount.amount) for line in found.lines] == [
        ("overage", 0),
        ("overage", Decimal("0.02")),
        ("platform_fee", 500),
        ("allotment", 1_000),
    ]
    assert found.total == Money("1500.02", "EUR")
    assert found.due_at == CLOSING
    assert found.lines[-1].description.endswith("1 November 2026 to 1 December 2026")
    assert not found.is_carried


def test_looking_writes_nothing():
    customer = scene(**builders.billed())
    builders.use(customer, 1_251, occurred_at=MID)
    with CaptureQueriesContext(connection) as queries:
        previews.next_invoice(customer=customer, at=MID)
    asked = [query["sql"].lstrip().upper() for query in queries]
    assert all(one.startswith(("SELECT", "WITH", "--")) for one in asked), asked
    assert not any(word in one for one in asked for word in ("INSERT ", "UPDATE ", "DELETE "))


def test_what_is_missing_of_the_commitment_is_on_it_as_things_are():
    customer = scene(**builders.billed(commitment=Decimal(2_000)))
    builders.use(customer, 1_300, occurred_at=MID)
    assert dict(shown(customer, MID))["true_up"] == Money(499, "EUR")


def test_before_the_subscription_begins_it_is_the_opening_invoice():
    customer = scene(starts_at=NOVEMBER, at=OCTOBER)
    found = preview(customer, OCTOBER)
    assert (found.occasion, found.due_at) == ("opening", NOVEMBER)
    subscriptions.renew_due(at=NOVEMBER)
    assert said(found.lines) == said(Invoice.objects.get().lines.all())


def test_after_a_cancellation_it_bills_the_overage_only_and_then_none_is_to_come():
    customer = scene(**builders.billed())
    builders.use(customer, 1_300, occurred_at=MID)
    subscriptions.cancel(subscription_id=customer.subscriptions.get().pk, at=MID)
    assert shown(customer, MID) == [("overage", Money(0, "EUR")), ("overage", Money(1, "EUR"))]
    closing.close_due(at=CLOSING)
    assert previews.next_invoice(customer=customer, at=CLOSING) is None


def test_what_came_in_after_the_last_closing_is_on_it():
    customer = scene(**builders.billed())
    subscriptions.cancel(subscription_id=customer.subscriptions.get().pk, at=MID)
    closing.close_due(at=CLOSING)
    builders.use(customer, 1_300, occurred_at=MID, at=CLOSING)
    found = preview(customer, CLOSING)
    assert (found.occasion, found.due_at) == ("late", None)
    closing.bill_late(at=CLOSING + DAY)
    assert said(found.lines) == said(Invoice.objects.get(occasion="late").lines.all())


def test_what_is_carried_over_stands_on_it_and_so_does_that_it_is_too_small_itself():
    free = {"platform_fee": Decimal(0), "allotment_microtokens": 0, "allotment_price": Decimal(0)}
    customer = scene(**builders.billed(**free))
    builders.use(customer, 252, occurred_at=MID)
    assert preview(customer, MID).is_carried
    closing.close_due(at=CLOSING)
    # Nothing else is to be billed: what is carried waits on.
    assert shown(customer, CLOSING) == []
    builders.use(customer, 251, occurred_at=NOVEMBER + DAY, at=CLOSING)
    assert [kind for kind, _ in shown(customer, CLOSING)] == ["carried", "overage", "overage"]


def test_a_customer_without_a_subscription_has_none():
    assert previews.next_invoice(customer=builders.customer(builders.shop()), at=MID) is None


USES = st.lists(st.tuples(st.integers(0, 90), st.integers(1, 9)), max_size=8)


@settings(max_examples=8)
@given(
    uses=USES,
    late=USES,
    fee=st.sampled_from([0, 1, 7]),
    allotment=st.sampled_from([0, 5]),
    commitment=st.sampled_from([0, 9]),
    cancelled_on=st.none() | st.integers(0, 80),
)
def test_right_before_a_closing_it_is_the_invoice(
    uses, late, fee, allotment, commitment, cancelled_on
):
    tiers = (
        Tier(up_to_microtokens=3 * TOKEN, micros_per_token=3_333),
        Tier(up_to_microtokens=None, micros_per_token=125_000),
    )
    customer = scene(
        platform_fee=Decimal(fee),
        allotment_microtokens=allotment * TOKEN,
        allotment_price=Decimal(allotment),
        **builders.billed(overage_tiers=tiers, commitment=Decimal(commitment and fee + 9)),
    )
    subscription = customer.subscriptions.get()
    for number, day in enumerate(range(0, 92, 10)):
        at = OCTOBER + day * DAY
        if cancelled_on is not None and day >= cancelled_on:
            subscriptions.cancel(subscription_id=subscription.pk, at=at)
        subscriptions.renew_due(at=at)
        for on, tokens in uses:
            if on // 10 == number:
                builders.use(customer, tokens, occurred_at=at)
        for back, tokens in late:
            if back // 10 == number:  # it comes a month late
                occurred_at = max(OCTOBER, at - 31 * DAY)
                builders.use(customer, tokens, occurred_at=occurred_at, at=at)
        _close_as_shown(customer, at)


def _close_as_shown(customer, at):
    while (
        due := customer.subscriptions.get()
        .periods.filter(closing__isnull=True, ends_at__lte=at - timedelta(hours=24))
        .order_by("number")
        .first()
    ):
        debiting.drain_all(account_ids=[customer.account_id], at=at)
        found = preview(customer, at)
        closing.close(period_id=due.pk, at=at)
        built = PeriodClosing.objects.get(period=due).invoice
        assert said(found.lines) == ([] if built is None else said(built.lines.all()))
        if built is not None:
            assert found.is_carried == hasattr(built, "carried")
