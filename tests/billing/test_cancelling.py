"""A subscription cancelled at once: the period ends now, and what is not used comes back."""

import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from djmoney.money import Money

from billing import cancelling, changes, closing, crediting, subscriptions
from billing.changes import Wanted
from billing.errors import NotChangeable
from billing.models import Credit, Invoice, Period, PeriodSettlement
from ledger import queries
from tests import builders
from tests.builders import DAY, NOVEMBER, OCTOBER, TOKEN

pytestmark = pytest.mark.django_db

MID = OCTOBER + timedelta(days=15, hours=12)  # half of October is left
TRIAL: dict[str, Any] = {"trial_days": 14, "trial_microtokens": 50 * TOKEN}


def scene(*, starts_at=OCTOBER, **changed):
    shop = builders.shop()
    customer = builders.customer(shop)
    version = builders.plan_version(shop, **changed)
    return builders.subscription(customer, version, starts_at=starts_at)


def lots(of, source):
    found = queries.lots(account_ids=[of.customer.account_id])
    return [lot for lot in found if lot.source == source]


def cancel(of, at=MID):
    return cancelling.cancel_now(subscription_id=of.pk, at=at)


def credited():
    return {one.description.split()[1]: one.amount.amount for one in Credit.objects.all()}


def lines():
    invoice = Invoice.objects.get(occasion="closing")
    return [(line.kind, line.amount.amount) for line in invoice.lines.all()]


def test_half_a_month_is_left_and_nothing_was_used_half_of_all_comes_back():
    subscription = scene()
    quote = cancelling.quote(subscription_id=subscription.pk, at=MID)
    assert (quote.credited, quote.microtokens) == (Money(750, "EUR"), 500 * TOKEN)
    assert not Credit.objects.exists()
    cancel(subscription)
    assert credited() == {"fees": 250, "allotment": 500}
    period = Period.objects.get()
    assert (period.ends_at, period.term_ends_at) == (MID, NOVEMBER)
    [lot] = lots(subscription, "allotment")
    assert (lot.expires_at, lot.remaining_microtokens) == (MID, 500 * TOKEN)
    balances = queries.balances(account_ids=[subscription.customer.account_id], at=MID)
    assert [one.available_microtokens for one in balances.values()] == [0]


def test_what_was_used_is_not_given_back():
    subscription = scene()
    builders.use(subscription.customer, 900, occurred_at=OCTOBER + DAY)
    cancel(subscription)
    assert credited() == {"fees": 250, "allotment": 100}
    closing.close_due(at=MID + DAY)
    settlement = PeriodSettlement.objects.get()
    assert (settlement.rolled_microtokens, settlement.expired_microtokens) == (0, 0)


def test_what_is_left_beyond_the_share_of_time_follows_the_plans_terms():
    subscription = scene()
    cancel(subscription)
    closing.close_due(at=MID + DAY)
    settlement = PeriodSettlement.objects.get()
    assert settlement.rolled_microtokens == 200 * TOKEN
    assert settlement.expired_microtokens == 300 * TOKEN


def test_overage_is_invoiced_after_the_grace_and_credits_are_set_against_it():
    subscription = scene(**builders.billed())
    builders.use(subscription.customer, 11_250, occurred_at=OCTOBER + DAY)  # EUR 200 of overage
    cancel(subscription)
    builders.use(subscription.customer, 100, occurred_at=MID - DAY, at=MID + timedelta(hours=1))
    assert closing.close_due(at=MID + DAY - timedelta(seconds=1)) == 0
    assert closing.close_due(at=MID + DAY) == 1
    assert lines() == [("overage", 0), ("overage", 0)]
    # 250 of the fee, less 200 and 2 of overage.
    assert crediting.left(customer=subscription.customer) == Money(48, "EUR")
    # Work that is done all the same is nobody's overage any more.
    builders.use(subscription.customer, 10, occurred_at=MID, at=MID + 2 * DAY)
    balances = queries.balances(account_ids=[subscription.customer.account_id], at=MID + 2 * DAY)
    assert [one.debt_microtokens for one in balances.values()] == [10 * TOKEN]


def test_a_commitment_is_owed_for_the_time_that_was_had():
    subscription = scene(**builders.billed(commitment=Decimal(2_000)))
    builders.use(subscription.customer, 1_000, occurred_at=OCTOBER + DAY)
    cancel(subscription)
    closing.close_due(at=MID + DAY)
    # A thousand is committed for half a month; 1,500 were paid, of which 250 came back.
    assert not Invoice.objects.filter(occasion="closing").exists()
    dear = scene(**builders.billed(commitment=Decimal(4_000)))
    cancel(dear)
    closing.close_due(at=MID + DAY)
    invoice = Invoice.objects.get(occasion="closing", customer=dear.customer)
    [line] = invoice.lines.all()
    assert (line.kind, line.micros) == ("true_up", 1_250_000_000)
    assert line.amount == Money(500, "EUR"), "750 of it were credited"


def test_a_further_lot_of_a_change_comes_back_by_its_own_life():
    subscription = scene()
    larger = builders.plan_version(
        builders.Shop(
            vendor=subscription.customer.vendor,
            unit_id=subscription.plan_version.unit_id,
            rate_card_id=subscription.plan_version.rate_card_id,
        ),
        platform_fee=Decimal(900),
        allotment_microtokens=3_000 * TOKEN,
        allotment_price=Decimal(2_400),
    )
    changes.change_now(
        subscription_id=subscription.pk,
        wanted=Wanted(plan_version_id=larger.pk),
        idempotency_key=uuid.uuid4(),
        at=MID,
    )
    cancel(subscription, at=OCTOBER + timedelta(days=23, hours=6))
    # A quarter of 900; a quarter of the first lot, half of the further one, at 0.70 a token.
    assert credited() == {"fees": 225, "allotment": 250 + 350}


def test_cancelling_twice_or_after_cancelling_with_the_periods_end_gives_back_once():
    subscription = scene()
    subscriptions.cancel(subscription_id=subscription.pk, at=OCTOBER + DAY)
    for at in (MID, MID, MID + DAY):
        cancel(subscription, at=at)
    assert credited() == {"fees": 250, "allotment": 500}
    assert Period.objects.get().ends_at == MID


def test_the_customer_can_be_put_on_a_plan_again_at_once_and_uses_its_credit_up():
    subscription = scene()
    cancel(subscription)
    again = builders.subscription(subscription.customer, subscription.plan_version, starts_at=MID)
    invoice = Invoice.objects.get(period__subscription=again)
    assert sum(line.amount.amount for line in invoice.lines.all()) == 750


def test_while_the_next_period_is_being_opened_nobody_cancels_at_once():
    subscription = scene()
    subscriptions.renew_due(at=NOVEMBER - timedelta(seconds=30))
    with pytest.raises(NotChangeable, match="not begun"):
        cancel(subscription, at=NOVEMBER - timedelta(seconds=20))
    subscription.refresh_from_db()
    assert subscription.cancelled_at is None


def test_before_it_begins_cancelling_costs_and_gives_nothing():
    shop = builders.shop()
    subscription = builders.subscription(
        builders.customer(shop), builders.plan_version(shop), starts_at=NOVEMBER, at=OCTOBER
    )
    assert cancelling.quote(subscription_id=subscription.pk, at=MID).credited == Money(0, "EUR")
    assert cancel(subscription).cancelled_at == MID
    subscriptions.renew_due(at=NOVEMBER)
    assert not Period.objects.exists()


def test_a_trial_costs_nothing_and_its_end_is_the_anchor():
    january = datetime(2026, 1, 17, tzinfo=UTC)
    subscription = scene(starts_at=january, **TRIAL)
    ends_at = datetime(2026, 1, 31, tzinfo=UTC)
    [trial] = lots(subscription, "trial")
    assert (trial.effective_at, trial.expires_at) == (january, ends_at)
    assert (trial.granted_microtokens, trial.price_micros) == (50 * TOKEN, 0)
    subscriptions.renew_due(at=ends_at - timedelta(hours=1))
    assert not Invoice.objects.exists()
    subscriptions.renew_due(at=ends_at)
    period = Period.objects.get()
    assert (period.starts_at, period.ends_at) == (ends_at, datetime(2026, 2, 28, tzinfo=UTC))
    assert Invoice.objects.get().occasion == "opening"
    subscriptions.renew_due(at=period.ends_at)
    assert Period.objects.get(number=2).ends_at == datetime(2026, 3, 31, tzinfo=UTC)


@pytest.mark.parametrize("at_once", [False, True])
def test_who_cancels_in_the_trial_pays_nothing_ever(at_once):
    subscription = scene(**TRIAL)
    at = OCTOBER + 3 * DAY
    builders.use(subscription.customer, 20, occurred_at=OCTOBER + DAY)
    if at_once:
        cancel(subscription, at=at)
    else:
        cancelled = subscriptions.cancel(subscription_id=subscription.pk, at=at)
        assert subscriptions.runs_until(subscription=cancelled) == OCTOBER + 14 * DAY
    [balance] = queries.balances(
        account_ids=[subscription.customer.account_id], at=at + DAY
    ).values()
    assert balance.available_microtokens == (0 if at_once else 30 * TOKEN)
    subscriptions.renew_due(at=NOVEMBER)
    closing.close_due(at=NOVEMBER + DAY)
    assert not Invoice.objects.exists()
    assert not Period.objects.exists()


def test_a_trial_is_given_once_a_customer_and_plan():
    subscription = scene(**TRIAL)
    cancel(subscription, at=OCTOBER + DAY)
    again = builders.subscription(
        subscription.customer, subscription.plan_version, starts_at=OCTOBER + 2 * DAY
    )
    assert again.trial_starts_at is None
    assert Period.objects.get().starts_at == OCTOBER + 2 * DAY
    assert len(lots(again, "trial")) == 1


def test_a_trial_lasts_whole_days_of_the_customers_clock():
    shop = builders.shop()
    customer = builders.customer(shop, time_zone="Europe/Paris")
    starts_at = datetime(2026, 10, 20, 8, tzinfo=UTC)  # 10 o'clock, summer time
    version = builders.plan_version(shop, **TRIAL)
    subscription = builders.subscription(customer, version, starts_at=starts_at)
    assert subscription.begins_at == datetime(2026, 11, 3, 9, tzinfo=UTC)
