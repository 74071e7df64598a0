"""Other terms: now, for the share of the period that is left, or with the next period."""

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from djmoney.money import Money
from hypothesis import given, settings
from hypothesis import strategies as st

from billing import alerts, catalog, changes, closing, crediting, previews, subscriptions
from billing.changes import Wanted
from billing.errors import InvalidInput, KeyReused, NotChangeable, NotForSale, QuoteOutdated
from billing.models import AlertMessage, Invoice, InvoiceLine, Period, PlanChange, Subscription
from ledger import catalog as ledger_catalog
from ledger import queries
from ledger.catalog import NewRate
from tests import builders
from tests.billing.test_closing import kill
from tests.builders import DAY, NOVEMBER, OCTOBER, TOKEN

pytestmark = pytest.mark.django_db

CLOSING = NOVEMBER + DAY
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)
MID = OCTOBER + timedelta(days=15, hours=12)  # half of October is left
SMALL = {"platform_fee": Decimal(500)}
LARGE = {
    "platform_fee": Decimal(900),
    "allotment_microtokens": 3_000 * TOKEN,
    "allotment_price": Decimal(2_400),
}


class Scene:
    def __init__(self, *, starts_at=OCTOBER, **terms):
        self.shop = builders.shop()
        self.customer = builders.customer(self.shop)
        self.version = builders.plan_version(self.shop, **terms)
        self.subscription = builders.subscription(self.customer, self.version, starts_at=starts_at)

    def plan(self, **terms):
        return builders.plan_version(self.shop, **terms)

    def now(self, version, at=MID, **more):
        return changes.change_now(
            subscription_id=self.subscription.pk,
            wanted=Wanted(plan_version_id=version.pk, **more),
            idempotency_key=uuid.uuid4(),
            at=at,
        )

    def at_end(self, version, at=MID, key=None, **more):
        return changes.change_at_period_end(
            subscription_id=self.subscription.pk,
            wanted=Wanted(plan_version_id=version.pk, **more),
            idempotency_key=key or uuid.uuid4(),
            at=at,
        )

    def quote(self, version, *, now=True, at=MID):
        wanted = Wanted(plan_version_id=version.pk)
        return changes.quote(subscription_id=self.subscription.pk, wanted=wanted, now=now, at=at)

    def confirm(self, token, *, at, key):
        return changes.confirm(
            subscription_id=self.subscription.pk, token=token, idempotency_key=key, at=at
        )

    def allotments(self):
        lots = queries.lots(account_ids=[self.customer.account_id])
        return [lot for lot in lots if lot.source == "allotment"]


def lines(occasion="closing", **period):
    invoice = Invoice.objects.get(occasion=occasion, **period)
    return [(line.kind, line.amount.amount) for line in invoice.lines.all()]


def test_a_larger_plan_now_adds_a_lot_and_costs_the_difference_for_what_is_left():
    scene = Scene()
    builders.use(scene.customer, 900, occurred_at=OCTOBER + DAY)
    change = scene.now(scene.plan(**LARGE))
    assert lines("change") == [("fee_change", 200), ("allotment_change", 700)]
    old, further = sorted(scene.allotments(), key=lambda lot: lot.id)
    assert (old.granted_microtokens, old.remaining_microtokens) == (1_000 * TOKEN, 100 * TOKEN)
    assert (further.granted_microtokens, further.price_micros) == (1_000 * TOKEN, 700_000_000)
    assert (further.effective_at, further.expires_at) == (MID, NOVEMBER)
    assert further.id == change.allotment_lot_id
    # What was granted first is used first; nothing was overwritten.
    builders.use(scene.customer, 300, occurred_at=MID + DAY)
    assert [lot.remaining_microtokens // TOKEN for lot in scene.allotments()] == [0, 800]
    closing.close_due(at=CLOSING)
    assert lines() == [("platform_fee", 900), ("allotment", 2_400)]
    [*_, november] = scene.allotments()
    assert november.granted_microtokens == 3_000 * TOKEN


def test_of_a_further_lot_its_own_share_rolls_over():
    scene = Scene()
    scene.now(scene.plan(**LARGE))
    closing.close_due(at=CLOSING)
    lots = queries.lots(account_ids=[scene.customer.account_id])
    rolled = sorted(lot.granted_microtokens // TOKEN for lot in lots if lot.source == "rollover")
    assert rolled == [200, 200]


def test_a_smaller_plan_now_takes_nothing_away_and_credits_what_it_costs_less():
    scene = Scene(**LARGE)
    change = scene.now(scene.plan(**SMALL))
    assert (change.fee_micros, change.allotment_lot_id) == (-200_000_000, None)
    assert change.invoice is None
    assert [lot.granted_microtokens // TOKEN for lot in scene.allotments()] == [3_000]
    assert crediting.left(customer=scene.customer) == Money(200, "EUR")
    closing.close_due(at=CLOSING)
    assert lines() == [("platform_fee", 300), ("allotment", 1_000)]
    assert [lot.granted_microtokens // TOKEN for lot in scene.allotments()][-1] == 1_000


def test_a_second_change_in_a_period_is_priced_by_the_whole_plan():
    scene = Scene()
    scene.now(scene.plan(**LARGE))
    three_quarters = OCTOBER + timedelta(days=23, hours=6)
    largest = {
        "platform_fee": Decimal(1_300),
        "allotment_microtokens": 5_000 * TOKEN,
        "allotment_price": Decimal(4_400),
    }
    second = scene.now(scene.plan(**largest), at=three_quarters)
    assert second.fee_micros == 100_000_000  # a quarter of 1,300 less 900
    assert second.allotment_micros == 500_000_000  # a quarter of 4,400 less 2,400
    assert second.allotment_microtokens == 500 * TOKEN


def test_back_and_forth_grants_nothing_twice():
    scene = Scene()
    large = scene.plan(**LARGE)
    scene.now(large)
    scene.now(scene.version, at=MID + timedelta(minutes=1))
    again = scene.now(large, at=MID + timedelta(minutes=2))
    assert (again.allotment_microtokens, again.allotment_micros) == (0, 0)
    assert sum(lot.granted_microtokens for lot in scene.allotments()) == 2_000 * TOKEN


@settings(max_examples=25)
@given(
    steps=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=6),
    fees=st.tuples(*[st.integers(0, 9)] * 3),
    allotments=st.tuples(*[st.integers(1, 9)] * 3),
)
def test_no_way_back_and_forth_mints_tokens_or_money(steps, fees, allotments):
    scene = Scene(
        platform_fee=Decimal(fees[0]),
        allotment_microtokens=allotments[0] * TOKEN,
        allotment_price=Decimal(allotments[0]),
    )
    versions = [scene.version] + [
        scene.plan(
            platform_fee=Decimal(fee),
            allotment_microtokens=allotment * TOKEN,
            allotment_price=Decimal(allotment),
        )
        for fee, allotment in zip(fees[1:], allotments[1:], strict=True)
    ]
    at, on = OCTOBER, 0
    for plan, days in steps:
        at += days * DAY
        if plan != on:
            scene.now(versions[plan], at=at)
            on = plan
    granted = sum(lot.granted_microtokens for lot in scene.allotments())
    assert granted <= max(allotments) * TOKEN
    # Of the fees no more comes back than was paid: what is left is at least what was had.
    made = PlanChange.objects.filter(period__subscription=scene.subscription)
    kept = fees[0] * 1_000_000 + sum(change.fee_micros for change in made)
    assert min(fees) * 1_000_000 <= kept + len(steps)
    assert kept <= max(fees) * 1_000_000 + len(steps)
    paid = sum(lot.price_micros for lot in scene.allotments())
    assert paid <= granted // TOKEN * 1_000_000 + 1_000_000
    assert all(line.amount.amount >= 0 for line in InvoiceLine.objects.all())


def test_at_the_periods_end_nothing_changes_until_then():
    scene = Scene()
    after = scene.at_end(scene.plan(**LARGE))
    assert not PlanChange.objects.exists()
    assert [lot.granted_microtokens // TOKEN for lot in scene.allotments()] == [1_000]
    found = previews.next_invoice(customer=scene.customer, at=MID)
    assert found is not None
    assert found.total == Money(3_300, "EUR")
    closing.close_due(at=CLOSING)
    assert lines() == [("platform_fee", 900), ("allotment", 2_400)]
    period = Period.objects.get(subscription=after)
    assert (period.number, period.starts_at, period.ends_at) == (1, NOVEMBER, DECEMBER)
    assert not Invoice.objects.filter(period=period, occasion="opening").exists()
    closing.close_due(at=DECEMBER + DAY)
    assert InvoiceLine.objects.filter(kind="platform_fee").count() == 3


def test_the_anchor_stays_also_when_the_term_changes():
    january = datetime(2026, 1, 31, tzinfo=UTC)
    scene = Scene(starts_at=january)
    scene.at_end(scene.plan(term_months=12, **LARGE), at=january + DAY)
    closing.close_due(at=datetime(2026, 3, 2, tzinfo=UTC))
    period = Period.objects.get(number=1, starts_at__gt=january)
    assert period.starts_at == datetime(2026, 2, 28, tzinfo=UTC)
    assert period.ends_at == datetime(2027, 2, 28, tzinfo=UTC)
    subscriptions.renew_due(at=period.ends_at)
    back = scene.at_end(scene.version, at=period.ends_at + DAY)
    assert back.months_before == 25
    assert back.begins_at == datetime(2028, 2, 29, tzinfo=UTC)
    next_month = subscriptions.to_open(subscription=back).ends_at
    assert next_month == datetime(2028, 3, 31, tzinfo=UTC)


def test_a_change_that_waits_may_be_withdrawn_or_replaced():
    scene = Scene()
    large = scene.plan(**LARGE)
    scene.at_end(large)
    assert changes.pending(subscription=scene.subscription, at=MID) is not None
    changes.withdraw(subscription_id=scene.subscription.pk, idempotency_key=uuid.uuid4(), at=MID)
    assert changes.pending(subscription=scene.subscription, at=MID) is None
    with pytest.raises(NotChangeable):
        changes.withdraw(
            subscription_id=scene.subscription.pk, idempotency_key=uuid.uuid4(), at=MID
        )
    scene.at_end(large)
    scene.at_end(scene.plan(platform_fee=Decimal(7)))
    closing.close_due(at=CLOSING)
    assert lines() == [("platform_fee", 7), ("allotment", 1_000)]
    assert Subscription.objects.filter(cancelled_at=None).count() == 1


def test_a_change_now_replaces_one_that_waits():
    scene = Scene()
    scene.at_end(scene.plan(platform_fee=Decimal(7)))
    scene.now(scene.plan(**LARGE))
    assert changes.pending(subscription=scene.subscription, at=MID) is None
    closing.close_due(at=CLOSING)
    assert lines() == [("platform_fee", 900), ("allotment", 2_400)]


def test_who_cancels_has_no_further_period_whatever_was_to_come():
    scene = Scene()
    scene.at_end(scene.plan(**LARGE))
    cancelled = subscriptions.cancel(subscription_id=scene.subscription.pk, at=MID)
    assert subscriptions.runs_until(subscription=cancelled) == NOVEMBER
    closing.close_due(at=CLOSING)
    assert Period.objects.count() == 1
    assert not Invoice.objects.filter(occasion="closing").exists()
    with pytest.raises(NotChangeable, match="cancelled"):
        scene.at_end(scene.version)


def test_sizes_and_seats_change_too():
    scene = Scene()
    seats = scene.plan(seat_price=Decimal(10))
    change = scene.now(seats, seats=4)
    assert change.fee_micros == 20_000_000
    more = scene.now(seats, seats=6, at=MID)
    assert more.fee_micros == 10_000_000
    with pytest.raises(InvalidInput):
        scene.now(seats, seats=0)


def test_what_cannot_be():
    scene = Scene()
    stranger = builders.plan_version(builders.shop())
    other = ledger_catalog.publish_rate_card(
        book_id=scene.shop.vendor.book_id,
        unit_id=scene.shop.unit_id,
        code="other",
        name="Other",
        effective_at=builders.OPENED,
        rates=[NewRate(meter="executions")],
        at=builders.OPENED,
    )
    other_card = builders.plan_version(replace(scene.shop, rate_card_id=other))
    draft = builders.plan_version(scene.shop, published=False)
    retired = scene.plan()
    catalog.retire(version_id=retired.pk, at=OCTOBER)
    for version in (stranger, draft, retired):
        with pytest.raises(NotForSale):
            scene.now(version)
    with pytest.raises(InvalidInput):
        scene.now(other_card)
    with pytest.raises(NotChangeable, match="already"):
        scene.now(scene.version)
    with pytest.raises(NotChangeable, match="term"):
        scene.now(scene.plan(term_months=12))
    for at in (OCTOBER - DAY, NOVEMBER):
        with pytest.raises(NotChangeable):
            scene.now(scene.plan(**LARGE), at=at)
    assert Subscription.objects.filter(customer=scene.customer).count() == 1
    assert scene.subscription.cancelled_at is None


def test_the_same_request_twice_changes_once():
    scene = Scene()
    large, key = scene.plan(**LARGE), uuid.uuid4()
    assert scene.at_end(large, key=key) == scene.at_end(large, key=key)
    with pytest.raises(KeyReused):
        scene.at_end(scene.plan(), key=key)
    assert Subscription.objects.filter(cancelled_at=None).count() == 1


def test_a_quote_says_what_is_then_charged_and_what_the_next_invoice_will_say():
    scene = Scene()
    quote = scene.quote(scene.plan(**LARGE))
    assert (quote.charged, quote.credited) == (Money(900, "EUR"), Money(0, "EUR"))
    assert quote.next_invoice.total == Money(3_300, "EUR")
    assert Subscription.objects.count() == 1, "nothing is written"
    key = uuid.uuid4()
    later = MID + timedelta(minutes=3)
    after = changes.confirm(
        subscription_id=scene.subscription.pk, token=quote.token, idempotency_key=key, at=later
    )
    assert (
        changes.confirm(
            subscription_id=scene.subscription.pk, token=quote.token, idempotency_key=key, at=later
        )
        == after
    )
    assert sum(amount for _, amount in lines("change")) == 900
    assert after.change.changed_at == later
    assert PlanChange.objects.count() == 1


def test_a_quote_of_the_next_period_costs_nothing_now():
    scene = Scene(**LARGE)
    quote = scene.quote(scene.plan(**SMALL), now=False)
    assert (quote.charged, quote.credited) == (Money(0, "EUR"), Money(0, "EUR"))
    changes.confirm(
        subscription_id=scene.subscription.pk,
        token=quote.token,
        idempotency_key=uuid.uuid4(),
        at=MID,
    )
    found = previews.next_invoice(customer=scene.customer, at=MID)
    assert found is not None
    assert found.total == quote.next_invoice.total == Money(1_500, "EUR")


def _quote_of_a_neighbour(scene, version):
    neighbour = builders.customer(scene.shop)
    of_neighbour = builders.subscription(neighbour, scene.version)
    wanted = Wanted(plan_version_id=version.pk)
    quote = changes.quote(subscription_id=of_neighbour.pk, wanted=wanted, now=True, at=MID)
    return quote.token


@pytest.mark.parametrize(
    "moved", ["changed", "pending", "retired", "old", "forged", "another", "cancelled"]
)
def test_an_old_quote_is_refused_and_changes_nothing(moved):
    scene = Scene()
    large, at = scene.plan(**LARGE), MID
    token = scene.quote(large).token
    if moved == "changed":
        scene.now(scene.plan(platform_fee=Decimal(7)))
    elif moved == "pending":
        scene.at_end(scene.plan(platform_fee=Decimal(7)))
    elif moved == "retired":
        catalog.retire(version_id=large.pk, at=MID)
    elif moved == "old":
        at += changes.QUOTE_HOLDS + timedelta(seconds=1)
    elif moved == "another":
        token = _quote_of_a_neighbour(scene, large)
    elif moved == "forged":
        token = token.replace(token[3], "A" if token[3] != "A" else "B", 1)
    else:
        subscriptions.cancel(subscription_id=scene.subscription.pk, at=MID)
    before = list(Subscription.objects.order_by("pk").values())
    with pytest.raises((QuoteOutdated, NotForSale, NotChangeable)):
        changes.confirm(
            subscription_id=scene.subscription.pk, token=token, idempotency_key=uuid.uuid4(), at=at
        )
    assert list(Subscription.objects.order_by("pk").values()) == before


def test_more_of_the_plan_widens_what_alerts_measure():
    scene = Scene()
    builders.use(scene.customer, 750, occurred_at=OCTOBER + DAY)
    assert alerts.evaluate(at=OCTOBER + DAY) == 1
    scene.now(scene.plan(**LARGE))
    assert alerts.evaluate(at=MID) == 0
    builders.use(scene.customer, 650, occurred_at=MID + DAY)
    assert alerts.evaluate(at=MID + DAY) == 1
    assert AlertMessage.objects.latest("id").granted_microtokens == 2_000 * TOKEN


def test_a_commitment_counts_the_difference_that_was_paid():
    scene = Scene(**builders.billed(commitment=Decimal(2_000)))
    scene.now(scene.plan(platform_fee=Decimal(900)))  # 200 for the rest
    closing.close_due(at=CLOSING)
    assert lines()[0] == ("true_up", 300)


@pytest.mark.parametrize("killed_after", range(len(closing.STEPS) + 1))
def test_the_closing_of_a_changed_period_killed_anywhere_comes_to_the_same_end(killed_after):
    scene = Scene(**builders.billed())
    scene.now(scene.plan(**LARGE))
    period = Period.objects.get()
    kill(period, after=killed_after)
    closing.close_due(at=CLOSING + timedelta(hours=1))
    assert lines() == [("platform_fee", 900), ("allotment", 2_400)]
    assert [lot.remaining_microtokens // TOKEN for lot in scene.allotments()] == [0, 0, 3_000]
