"""Tokens that buy themselves, and all that keeps them from it; against the simulator."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from django.core import mail as outgoing
from django.db import IntegrityError, transaction
from djmoney.money import Money

from billing import auto_top_ups, mail, packs, payment_methods, top_up_charges, top_ups
from billing.errors import InvalidInput, KeyReused, PaymentDoesNotMatch
from billing.models import (
    AutoTopUp,
    AutoTopUpPause,
    AutoTopUpWithheld,
    Notice,
    StripeCall,
    TopUp,
    TopUpCharge,
    TopUpFulfilment,
)
from billing.stripe import checkout, inbox, reconcile
from ledger import queries
from tests import builders
from tests.billing.stripe_world import deliver, send_all
from tests.builders import TOKEN

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)
ASKS_ALWAYS = "pm_card_authenticationRequiredAlways"
DECLINED = "pm_card_chargeCustomerFail"
CHARGES = "^/v1/payment_intents$"


def now():
    return datetime.now(UTC)


def scene(*, card="pm_card_visa", tokens=50, price=60, on=True, **terms):
    """A customer with a card and no tokens, who has a pack of 50 for EUR 60 bought below 100."""
    shop = builders.shop()
    buyer = builders.customer(shop, stripe_payment_method_id=card)
    pack = builders.pack(shop, tokens=tokens, price=Money(price, "EUR"))
    send_all(now())
    buyer.refresh_from_db()
    if on:
        turn_on(buyer, pack, **terms)
    return buyer, pack


def turn_on(buyer, pack, *, threshold=100, ceiling=1_000, key=None, at=None):
    return auto_top_ups.turn_on(
        customer_id=buyer.pk,
        pack_id=pack.pk,
        threshold_microtokens=threshold * TOKEN,
        ceiling=Money(ceiling, "EUR"),
        by=None,
        idempotency_key=key or uuid.uuid4(),
        at=at or now(),
    )


def look(at=None):
    """The sweep looks, and what it began is charged."""
    begun = auto_top_ups.evaluate(at=at or now())
    send_all(at or now())
    return begun


def lots(buyer):
    found = queries.lots(account_ids=[buyer.account_id])
    return sorted(lot.granted_microtokens // TOKEN for lot in found if lot.source == "top_up")


def current(buyer):
    auto = auto_top_ups.current(customer=buyer)
    assert auto is not None
    return auto


def reasons(buyer, at=None):
    auto = current(buyer)
    return [one.code for one in auto_top_ups.outlook(auto_top_up=auto, at=at or now()).reasons]


def test_it_is_off_until_asked_for_and_a_purchase_by_hand_never_turns_it_on(at_stripe):
    buyer, pack = scene(on=False)
    session = checkout.start(
        customer_id=buyer.pk,
        pack_id=pack.pk,
        keeps_card=True,
        idempotency_key=uuid.uuid4(),
        at=now(),
    )
    at_stripe.pay(session.url)
    top_ups.fulfil(top_up_id=session.top_up_id, at=now())
    builders.use(buyer, 50, occurred_at=now())
    assert look() == 0
    assert not AutoTopUp.objects.exists()
    assert lots(buyer) == [50]


def test_it_buys_enough_packs_at_once_and_then_is_quiet(at_stripe):
    """Threshold 100, pack of 50, 400 tokens owed: ten packs."""
    buyer, _ = scene()
    builders.use(buyer, 400, occurred_at=now())
    assert look() == 1
    assert lots(buyer) == [500]
    charge = TopUpCharge.objects.get()
    assert (charge.available_microtokens, charge.ended_at is not None) == (-400 * TOKEN, True)
    assert charge.top_up.payment.amount == Money(600, "EUR")
    assert look() == 0
    assert len(at_stripe.received(CHARGES)) == 1
    [sent] = at_stripe.api().v1.payment_intents.list({}).data
    assert sent.metadata["top_up_id"] == str(charge.top_up_id)


def test_at_the_threshold_nothing_is_bought_and_a_token_below_it_is(at_stripe):
    buyer, _ = scene(threshold=50)
    assert look() == 1
    assert look() == 0, "50 are not fewer than 50"
    builders.use(buyer, 1, occurred_at=now())
    assert look() == 1
    assert lots(buyer) == [50, 50]


def test_it_stops_at_the_months_ceiling_and_goes_on_with_the_next_month(at_stripe):
    buyer, _ = scene(ceiling=200)
    assert look() == 1
    assert lots(buyer) == [100]
    builders.use(buyer, 100, occurred_at=now())
    # EUR 120 of 200 are spent: two packs would be wanted, one has room.
    assert look() == 1
    assert lots(buyer) == [50, 100]
    assert look() == 0
    assert reasons(buyer) == ["ceiling_reached"]
    assert look() == 0
    noted = AutoTopUpWithheld.objects.get()
    assert "€180.00 of at most €200.00 are spent this month" in noted.words
    assert look(now() + 32 * DAY) == 1


def test_a_month_begins_where_the_customer_is(at_stripe):
    shop = builders.shop()
    buyer = builders.customer(shop, time_zone="Asia/Tokyo")
    pack = builders.pack(shop, tokens=50, price=Money(60, "EUR"))
    send_all(now())
    # In Tokyo the month ends at 15:00 in London.
    ends = datetime(2027, 1, 31, 15, tzinfo=UTC)
    turn_on(buyer, pack, threshold=1, ceiling=60, at=ends - DAY)
    second = timedelta(seconds=1)
    assert look(ends - 2 * second) == 1
    builders.use(buyer, 50, occurred_at=now())
    assert look(ends - second) == 0
    assert look(ends) == 1


def test_what_is_above_the_own_maximum_is_shown_and_never_silently_dropped(at_stripe):
    """The pack became dearer than the ceiling only because the ceiling was for a smaller one."""
    buyer, pack = scene()
    small = AutoTopUp(
        customer=buyer, pack=pack, threshold_microtokens=TOKEN, ceiling=Money(59, "EUR")
    )
    seen = auto_top_ups.outlook(auto_top_up=small, at=now())
    assert [one.code for one in seen.reasons] == ["above_own_maximum"]
    assert "more than your own maximum of €59.00 a month" in seen.reasons[0].words
    assert (seen.is_needed, seen.packs) == (True, 0)
    with pytest.raises(InvalidInput, match=r"ceiling: must be at least €60\.00"):
        turn_on(buyer, pack, ceiling=59)


def test_tokens_that_are_paid_for_and_on_their_way_are_counted(at_stripe):
    buyer, pack = scene(threshold=50)
    session = checkout.start(
        customer_id=buyer.pk, pack_id=pack.pk, idempotency_key=uuid.uuid4(), at=now()
    )
    top_ups.fulfil(top_up_id=session.top_up_id, at=now())
    assert auto_top_ups.levels(customers=[buyer], at=now())[buyer.pk] == 0, "it may stay unpaid"
    at_stripe.pay(session.url, way="bank_debit")
    top_ups.fulfil(top_up_id=session.top_up_id, at=now())
    assert auto_top_ups.levels(customers=[buyer], at=now())[buyer.pk] == 50 * TOKEN
    assert look() == 0
    at_stripe.bank_answers(session_id=session.stripe_session_id, outcome="failed")
    top_ups.fulfil(top_up_id=session.top_up_id, at=now())
    assert look() == 1


def test_one_is_under_way_at_a_time_and_the_database_says_so_too(at_stripe):
    buyer, _ = scene()
    assert auto_top_ups.evaluate(at=now()) == 1
    assert auto_top_ups.evaluate(at=now()) == 0
    assert reasons(buyer) == ["in_flight"]
    assert auto_top_ups.levels(customers=[buyer], at=now())[buyer.pk] == 100 * TOKEN
    charge = TopUpCharge.objects.get()
    offer = packs.in_currency(pack=charge.top_up.pack, currency="EUR")
    other = top_ups.write(customer=buyer, offer=offer, idempotency_key=uuid.uuid4(), at=now())
    with pytest.raises(IntegrityError, match="one_at_a_time"), transaction.atomic():
        TopUpCharge.objects.create(
            top_up=other,
            customer=buyer,
            auto_top_up=charge.auto_top_up,
            method=charge.method,
            month=charge.month,
            available_microtokens=0,
            begun_at=now(),
        )
    send_all(now())
    assert lots(buyer) == [100]


@pytest.mark.parametrize("kind", ["reset_before", "reset_after_commit"])
def test_an_answer_that_is_lost_charges_once_and_grants_once(at_stripe, kind):
    buyer, _ = scene()
    at_stripe.fault(kind=kind, path=CHARGES, times=3)
    look()
    assert lots(buyer) == []
    for event in at_stripe.events("payment_intent.succeeded"):
        deliver(event)
    inbox.act_on_due(at=now())
    send_all(now() + timedelta(minutes=1))
    assert lots(buyer) == [100]
    charges = at_stripe.api().v1.charges.list({}).data
    assert [charge.status for charge in charges] == ["succeeded"]
    assert TopUpFulfilment.objects.count() == 1


def test_a_key_that_remembers_a_fault_is_looked_up_and_not_charged_again(at_stripe):
    buyer, _ = scene()
    at_stripe.fault(kind="status", status=500, after_commit=True, path=CHARGES, times=1)
    look()
    for minutes in (1, 2):
        send_all(now() + timedelta(minutes=minutes))
    reconcile.reconcile(at=now() + timedelta(minutes=10))
    assert lots(buyer) == [100]
    assert len(at_stripe.api().v1.charges.list({}).data) == 1
    assert TopUpCharge.objects.get().ended_at is not None


def test_the_event_the_answer_and_the_reconciler_grant_one_lot(at_stripe):
    buyer, _ = scene()
    look()
    for _ in range(2):
        for event in at_stripe.events("payment_intent.succeeded"):
            deliver(event)
        inbox.act_on_due(at=now())
        reconcile.reconcile(at=now() + timedelta(minutes=6))
    top_up = TopUp.objects.get()
    assert top_up_charges.look(top_up_id=top_up.pk, at=now())
    assert lots(buyer) == [100]
    assert top_ups.state(top_up=top_up) == "granted"


@pytest.mark.parametrize(
    ("decline", "reason", "until"),
    [
        ("authentication_required", "authentication", None),
        ("lost_card", "hard_decline", None),
        ("expired_card", "hard_decline", None),
        ("insufficient_funds", "soft_decline", DAY),
    ],
)
def test_a_bank_that_says_no_pauses_it_at_once_and_the_payer_is_told(
    at_stripe, decline, reason, until
):
    buyer, _ = scene()
    at_stripe.fault(kind="decline", code=decline, path=CHARGES, times=1)
    at = now()
    assert look(at) == 1
    pause = AutoTopUpPause.objects.get()
    assert (pause.reason, pause.until) == (reason, None if until is None else at + until)
    assert lots(buyer) == []
    assert look() == 0
    assert reasons(buyer) == ["paused"]
    mail.send_due(at=now())
    mail.send_due(at=now())
    [sent] = outgoing.outbox
    assert buyer.email in sent.to
    assert "could not be bought" in sent.subject
    assert top_up_charges.WHAT_TO_DO[AutoTopUpPause.Reason(pause.reason)] in sent.body
    assert "/auto-top-up/" in sent.body
    for event in at_stripe.events("payment_intent.payment_failed"):
        deliver(event)
    inbox.act_on_due(at=now())
    assert (Notice.objects.count(), AutoTopUpPause.objects.count()) == (1, 1)
    auto_top_ups.resume(customer_id=buyer.pk, by=None, at=now())
    assert look() == 1
    assert lots(buyer) == [100]


def test_a_card_that_asks_each_time_is_a_decline_and_is_not_tried_again(at_stripe):
    scene(card=ASKS_ALWAYS)
    for days in (0, 2, 40):
        look(now() + days * DAY)
    assert AutoTopUpPause.objects.get().reason == "authentication"
    assert len(at_stripe.received(CHARGES)) == 1


def test_the_third_soft_decline_in_a_row_is_not_tried_again(at_stripe):
    buyer, _ = scene(card=DECLINED)
    hour = timedelta(hours=1)
    for hours in range(0, 24 * 9, 6):
        look(now() + hours * hour)
    assert [one.reason for one in AutoTopUpPause.objects.order_by("id")] == [
        "soft_decline",
        "soft_decline",
        "soft_declines",
    ]
    assert len(at_stripe.received(CHARGES)) == 3
    # Somebody looked into it: the count begins anew.
    auto_top_ups.resume(customer_id=buyer.pk, by=None, at=now() + 10 * DAY)
    look(now() + 10 * DAY)
    assert AutoTopUpPause.objects.latest("id").reason == "soft_decline"


def test_a_failed_charge_does_not_use_up_the_ceiling(at_stripe):
    buyer, _ = scene(ceiling=120)
    at_stripe.fault(kind="decline", code="insufficient_funds", path=CHARGES, times=1)
    look()
    auto_top_ups.resume(customer_id=buyer.pk, by=None, at=now())
    look()
    assert lots(buyer) == [100]
    assert reasons(buyer) == ["ceiling_reached"]


def test_all_that_stands_against_it_is_told_at_once(at_stripe):
    buyer, pack = scene()
    [method] = payment_methods.kept(customer=buyer)
    payment_methods.remove(customer_id=buyer.pk, method_id=method.pk, at=now())
    packs.retire(pack_id=pack.pk, at=now())
    assert look() == 0
    assert reasons(buyer) == ["card_missing", "not_for_sale"]
    assert AutoTopUpWithheld.objects.get().reason == "card_missing"
    auto = current(buyer)
    auto_top_ups.turn_off(customer_id=buyer.pk, by=None, at=now())
    auto.refresh_from_db()
    seen = auto_top_ups.outlook(auto_top_up=auto, at=now())
    assert seen.reasons[0].code == "off"
    assert look() == 0


def test_tax_is_worked_out_and_charged_on_top(at_stripe, settings):
    buyer, _ = scene(ceiling=120)
    settings.STRIPE_TAX = True
    at_stripe.tell("tax", percent=20)
    look()
    # Stripe does not know where the buyer is.
    pause = AutoTopUpPause.objects.get()
    assert (pause.reason, pause.until) == ("address", None)
    assert "give your address" in Notice.objects.get().body
    assert at_stripe.received(CHARGES) == []
    address = {"country": "DE", "postal_code": "10115"}
    at_stripe.api().v1.customers.update(buyer.stripe_customer_id, {"address": address})
    auto_top_ups.resume(customer_id=buyer.pk, by=None, at=now())
    at_stripe.fault(kind="reset_after_commit", path="^/v1/tax/calculations$", times=3)
    look()
    send_all(now() + timedelta(minutes=1))
    assert lots(buyer) == [100]
    payment = TopUp.objects.get(fulfilment__isnull=False).payment
    assert payment.amount == Money(144, "EUR")
    assert reasons(buyer) == ["ceiling_reached"], "which is before tax"


def test_turning_it_on_twice_under_a_key_is_once_and_other_terms_replace_it(at_stripe):
    buyer, pack = scene(on=False)
    key = uuid.uuid4()
    first = turn_on(buyer, pack, key=key)
    assert turn_on(buyer, pack, key=key) == first
    second = turn_on(buyer, pack, threshold=7)
    first.refresh_from_db()
    assert first.turned_off_at is not None
    assert auto_top_ups.current(customer=buyer) == second
    other, foreign = scene(on=False)
    with pytest.raises(KeyReused):
        turn_on(other, foreign, key=key)


@pytest.mark.parametrize(
    ("terms", "field"),
    [
        ({"threshold": 0}, "threshold"),
        ({"threshold": 10**13}, "threshold"),
        ({"ceiling": 0}, "ceiling"),
        ({"ceiling": -1}, "ceiling"),
    ],
)
def test_terms_that_make_no_sense_are_refused_at_their_field(at_stripe, terms, field):
    buyer, pack = scene(on=False)
    with pytest.raises(InvalidInput) as refusal:
        turn_on(buyer, pack, **terms)
    assert [fault.field for fault in refusal.value.faults] == [field]
    assert not AutoTopUp.objects.exists()


def test_without_a_card_or_with_another_vendors_pack_it_is_not_turned_on(at_stripe):
    buyer, _ = scene(card="", on=False)
    _, foreign = scene(on=False)
    with pytest.raises(InvalidInput) as refusal:
        turn_on(buyer, foreign)
    assert [fault.field for fault in refusal.value.faults] == ["pack", "card"]


def test_a_payment_of_something_else_grants_nothing(at_stripe):
    buyer, _ = scene()
    at_stripe.fault(kind="reset_before", path=CHARGES, times=3)
    look()
    charge = TopUpCharge.objects.get()
    forged = at_stripe.api().v1.payment_intents.create(
        {
            "amount": 100,
            "currency": "eur",
            "customer": buyer.stripe_customer_id,
            "payment_method": charge.method.stripe_payment_method_id,
            "confirm": True,
            "off_session": True,
            "metadata": {"top_up_id": str(charge.top_up_id)},
        }
    )
    with pytest.raises(PaymentDoesNotMatch, match="amount"):
        top_up_charges.look(
            top_up_id=charge.top_up_id, stripe_payment_intent_id=forged.id, at=now()
        )
    assert lots(buyer) == []


def test_a_call_that_stripe_refuses_for_another_reason_pauses_it_too(at_stripe):
    buyer, _ = scene()
    [method] = payment_methods.kept(customer=buyer)
    assert auto_top_ups.evaluate(at=now()) == 1
    at_stripe.api().v1.payment_methods.detach(method.stripe_payment_method_id)
    send_all(now())
    assert StripeCall.objects.get(operation="top_up.charge").refused_at is not None
    assert AutoTopUpPause.objects.get().reason == "soft_decline"
    assert top_ups.state(top_up=TopUp.objects.get()) == "failed"
