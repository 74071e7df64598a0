"""Disputes of top-ups against the simulator: real HTTP, the official SDK, signed events."""

from datetime import timedelta
from typing import Any

import pytest
from djmoney.money import Money

from billing import invoicing
from billing.errors import NotRefundable, PaymentDisputed
from billing.models import Dispute, DisputeStatus, TopUpReversal
from billing.stripe import reconcile
from ledger import grants
from tests.billing.buying import Bought, buy, buy_again, hear, now, send
from tests.billing.test_invoices_at_stripe import scene
from tests.billing.test_refunds import taken

pytestmark = pytest.mark.django_db

EUR_10 = Money(10, "EUR")


def disputed(at_stripe, *, used: int = 0) -> tuple[Bought, str]:
    bought = buy(at_stripe)
    if used:
        bought.use(used)
    dispute_id = bought.dispute()
    hear(at_stripe)
    return bought, dispute_id


def test_a_dispute_freezes_what_is_left_and_nobody_spends_it(at_stripe):
    bought, _ = disputed(at_stripe, used=100)
    assert (bought.state, bought.left, taken(bought)) == ("frozen", 0, (0, 400, 0))
    bought.use(50)
    assert bought.debt == 50
    with pytest.raises(PaymentDisputed):
        buy_again(at_stripe, bought.shop, bought.customer, price=EUR_10)
    with pytest.raises(NotRefundable, match="disputed"):
        bought.refund(100)


def test_frozen_tokens_outlive_the_end_of_their_time(at_stripe):
    bought, dispute_id = disputed(at_stripe)
    later = now() + timedelta(days=400)
    while grants.expire_due(at=later):
        pass
    assert taken(bought) == (0, 500, 0)
    bought.decide(dispute_id, "won")
    hear(at_stripe)
    assert (bought.left, bought.state) == (500, "granted")


def test_won_the_tokens_thaw(at_stripe):
    bought, dispute_id = disputed(at_stripe, used=100)
    bought.decide(dispute_id, "won")
    hear(at_stripe, reverse=True, times=2)
    assert (bought.state, bought.left) == ("granted", 400)
    assert buy_again(at_stripe, bought.shop, bought.customer, price=EUR_10).state == "granted"


def test_lost_the_tokens_go_and_what_was_used_is_owed(at_stripe):
    bought, dispute_id = disputed(at_stripe, used=100)
    bought.decide(dispute_id, "lost")
    hear(at_stripe, times=2)
    assert (bought.state, taken(bought), bought.debt) == ("lost", (400, 0, 100), 100)
    buy_again(at_stripe, bought.shop, bought.customer, price=EUR_10)
    assert bought.debt == 0


def test_won_and_then_refunded_takes_once(at_stripe):
    bought, dispute_id = disputed(at_stripe, used=100)
    bought.decide(dispute_id, "won")
    hear(at_stripe)
    bought.refund()
    send()
    hear(at_stripe, reverse=True)
    assert (taken(bought), bought.state) == ((400, 0, 0), "partly refunded")
    assert bought.debt == 0


def test_refunded_in_part_and_then_lost_takes_no_more_than_there_was(at_stripe):
    bought = buy(at_stripe)
    bought.refund(200)
    send()
    dispute_id = bought.dispute(amount=1000)
    bought.decide(dispute_id, "lost")
    hear(at_stripe, reverse=True)
    assert (taken(bought), bought.debt) == ((500, 0, 0), 0)


def test_an_inquiry_takes_nothing_until_it_becomes_a_dispute(at_stripe):
    bought = buy(at_stripe, card="4000000000001976")
    hear(at_stripe)
    inquiry = Dispute.objects.get()
    assert (bought.state, bought.left) == ("granted", 500)
    bought.decide(inquiry.stripe_dispute_id, "escalated")
    hear(at_stripe)
    assert bought.state == "frozen"
    assert [row.status for row in inquiry.statuses.all()] == [
        "warning_needs_response",
        "needs_response",
    ]


def test_an_inquiry_that_is_closed_took_nothing(at_stripe):
    bought = buy(at_stripe, card="4000000000001976")
    hear(at_stripe)
    bought.decide(Dispute.objects.get().stripe_dispute_id, "warning_closed")
    hear(at_stripe)
    assert (bought.state, TopUpReversal.objects.count()) == ("granted", 0)


def test_a_dispute_that_is_heard_of_before_the_payment_is(at_stripe):
    """The card disputes at once: the first event is the dispute's."""
    bought = buy(at_stripe, card="4000000000000259", fulfilled=False)
    assert bought.state == "pending"
    hear(at_stripe, "charge.dispute.created")
    assert (bought.state, taken(bought)) == ("frozen", (0, 500, 0))
    hear(at_stripe)
    assert taken(bought) == (0, 500, 0)
    assert DisputeStatus.objects.count() == 1


def test_a_part_of_a_payment_is_disputed_and_its_share_is_frozen(at_stripe):
    bought = buy(at_stripe)
    bought.dispute(amount=250)
    hear(at_stripe)
    assert (bought.left, taken(bought)) == (375, (0, 125, 0))


def test_a_dispute_of_which_no_event_tells_is_found_and_followed(at_stripe):
    bought = buy(at_stripe)
    dispute_id = bought.dispute()
    assert reconcile.look_back(at=now()) == 1
    assert bought.state == "frozen"
    bought.decide(dispute_id, "lost")
    assert reconcile.reconcile(at=now() + timedelta(minutes=6)).disputes_count == 1
    assert bought.state == "lost"
    assert reconcile.reconcile(at=now() + timedelta(minutes=6)).disputes_count == 0


def test_a_dispute_of_an_invoice_is_noted_and_takes_no_tokens(at_stripe):
    customer = scene()
    send()
    [charge] = at_stripe.api().v1.charges.list().data
    at_stripe.tell("disputes", payment_intent=charge.payment_intent)
    hear(at_stripe, "charge.dispute.created")
    dispute = Dispute.objects.get()
    assert dispute.invoice == customer.invoices.get()
    assert invoicing.state(invoice=customer.invoices.get()) == "disputed"
    at_stripe.tell("disputes/close", dispute=dispute.stripe_dispute_id, outcome="won")
    hear(at_stripe, "charge.dispute.closed")
    assert invoicing.state(invoice=customer.invoices.get()) == "paid"
    assert not TopUpReversal.objects.exists()


def test_disputes_of_other_payments_are_none_of_ours(at_stripe):
    paid: Any = {
        "amount": 500,
        "currency": "eur",
        "confirm": True,
        "payment_method": "pm_card_createDispute",
    }
    at_stripe.api().v1.payment_intents.create(paid)
    hear(at_stripe)
    assert not Dispute.objects.exists()
