"""Refunds of top-ups against the simulator: real HTTP, the official SDK, signed events."""

import uuid
from datetime import timedelta

import pytest
from djmoney.money import Money

from billing import refunds
from billing import reversals as taken_back
from billing.errors import KeyReused, NothingToAskAgain, NotRefundable
from billing.models import Refund, RefundFailure, StripeCall, TopUpReversal
from billing.stripe import outbox, reconcile, troubles
from ledger import accounts, corrections, reversals
from tests import builders
from tests.billing.buying import Bought, buy, buy_again, hear, now, send
from tests.builders import TOKEN

pytestmark = pytest.mark.django_db

EUR_10 = Money(10, "EUR")


def refunded(bought: Bought) -> list[tuple[int, str | None]]:
    listed = bought.stripe.api().v1.refunds.list({"payment_intent": bought.intent_id})
    return [(refund.amount, refund.status) for refund in listed.data[::-1]]


def taken(bought: Bought) -> tuple[int, int, int]:
    """Tokens revoked, frozen and owed."""
    stands = reversals.reversed_of(lot_id=bought.lot.id)
    return (
        stands.revoked_microtokens // TOKEN,
        stands.frozen_microtokens // TOKEN,
        stands.owed_microtokens // TOKEN,
    )


def test_what_is_left_of_a_part_used_pack_goes_back_at_its_own_price(at_stripe):
    """500 tokens for 10, 100 used: 8 go back, and 400 tokens are removed."""
    bought = buy(at_stripe)
    bought.use(100)
    refund = bought.refund()
    assert (refund.amount, refund.microtokens) == (Money(8, "EUR"), 400 * TOKEN)
    assert (bought.left, taken(bought), bought.state) == (0, (0, 400, 0), "frozen")
    send()
    assert refunded(bought) == [(800, "succeeded")]
    assert (taken(bought), bought.state, bought.debt) == ((400, 0, 0), "partly refunded", 0)
    hear(at_stripe, times=2)
    assert taken(bought) == (400, 0, 0)
    assert bought.lot.price_micros == 10_000_000


def test_money_asked_for_takes_the_tokens_that_it_bought(at_stripe):
    bought = buy(at_stripe)
    bought.use(100)
    refund = bought.refund(amount=Money(8, "EUR"))
    assert refund.microtokens == 400 * TOKEN
    with pytest.raises(NotRefundable, match="0 are left"):
        bought.refund(amount=Money("0.02", "EUR"))


def test_three_parts_come_to_the_whole_to_the_cent(at_stripe):
    bought = buy(at_stripe)
    for tokens in (167, 167, 166):
        bought.refund(tokens)
        send()
    assert [amount for amount, _ in refunded(bought)] == [334, 334, 332]
    assert (taken(bought), bought.state) == ((500, 0, 0), "refunded")
    with pytest.raises(NotRefundable):
        bought.refund(amount=Money("0.01", "EUR"), force=True)


def test_money_is_rounded_down_and_tokens_are_rounded_up():
    assert taken_back.tokens_for(amount=1, gross=3, granted=10) == 4
    assert taken_back.tokens_for(amount=9, gross=3, granted=10) == 10
    assert taken_back.amount_for(microtokens=4, gross=3, granted=10) == 1
    assert taken_back.amount_for(microtokens=11, gross=3, granted=10) == 3


def test_tax_goes_back_in_proportion_and_buys_no_tokens(at_stripe, settings):
    settings.STRIPE_TAX = True
    at_stripe.tell("tax", percent=20)
    bought = buy(at_stripe)
    assert bought.top_up.payment.amount == Money(12, "EUR")
    assert bought.lot.granted_microtokens == 500 * TOKEN
    refund = bought.refund(250)
    assert refund.amount == Money(6, "EUR")
    send()
    assert taken(bought) == (250, 0, 0)
    made = at_stripe.api().v1.refunds.create({"payment_intent": bought.intent_id, "amount": 300})
    hear(at_stripe, "refund.created")
    assert (made.amount, taken(bought)) == (300, (375, 0, 0))


def test_free_tokens_go_by_the_same_share_and_what_of_them_was_used_is_not_owed(at_stripe):
    """500 paid and 100 free; runs draw on the free ones first."""
    bought = buy(at_stripe, bonus_microtokens=100 * TOKEN)
    bought.use(70)
    bonus_id = bought.top_up.fulfilment.bonus_lot_id or 0
    bought.refund(250)
    send()
    assert (taken(bought), bought.left) == ((250, 0, 0), 250)
    assert reversals.reversed_of(lot_id=bonus_id).revoked_microtokens == 30 * TOKEN
    dispute_id = bought.dispute(amount=500)
    bought.decide(dispute_id, "lost")
    hear(at_stripe)
    assert (taken(bought), bought.debt) == ((500, 0, 0), 0)


def test_free_tokens_are_frozen_and_thawed_with_the_others(at_stripe):
    bought = buy(at_stripe, bonus_microtokens=100 * TOKEN)
    bonus_id = bought.top_up.fulfilment.bonus_lot_id or 0
    dispute_id = bought.dispute()
    hear(at_stripe)
    assert reversals.reversed_of(lot_id=bonus_id).frozen_microtokens == 100 * TOKEN
    bought.decide(dispute_id, "won")
    hear(at_stripe)
    assert reversals.reversed_of(lot_id=bonus_id).frozen_microtokens == 0


def test_more_than_is_left_goes_back_only_if_it_is_forced_and_leaves_a_debt(at_stripe):
    bought = buy(at_stripe)
    bought.use(500)
    with pytest.raises(NotRefundable, match="500 tokens are asked for, 0 are left"):
        bought.refund(500)
    assert not Refund.objects.exists()
    bought.refund(500, force=True)
    send()
    assert (taken(bought), bought.debt, bought.state) == ((0, 0, 500), 500, "refunded")
    more = buy_again(at_stripe, bought.shop, bought.customer, price=EUR_10)
    assert bought.debt == 0
    assert more.top_up.fulfilment.lot_id != bought.lot.id


def test_tokens_that_have_expired_are_not_refunded(at_stripe):
    bought = buy(at_stripe)
    later = now() + timedelta(days=400)
    assert refunds.refundable(top_up=bought.top_up, at=later).microtokens == 0
    with pytest.raises(NotRefundable):
        refunds.ask(
            top_up_id=bought.top_up_id,
            microtokens=1,
            reason="",
            asked_by=None,
            idempotency_key=uuid.uuid4(),
            at=later,
        )


def test_a_refund_that_fails_days_later_gives_the_tokens_back(at_stripe):
    bought = buy(at_stripe, card="4000000000005126")
    bought.use(100)
    refund = bought.refund()
    send()
    assert taken(bought) == (400, 0, 0)
    at_stripe.advance(86_400)
    hear(at_stripe, "refund.failed", times=2)
    assert (bought.left, bought.state) == (400, "granted")
    assert list(refunds.failed()) == [refund]
    # Late news of its success changes nothing: Stripe is asked how it stands.
    hear(at_stripe, "refund.created", "refund.updated")
    assert bought.left == 400
    bought.refund(400)
    send()
    assert (taken(bought), list(refunds.failed())) == ((400, 0, 0), [])


@pytest.mark.parametrize(("outcome", "left"), [("succeeded", 0), ("canceled", 500)])
def test_a_refund_may_take_its_time(at_stripe, outcome, left):
    bought = buy(at_stripe, card="4000000000007726")
    bought.refund()
    send()
    assert (bought.left, bought.state) == (0, "frozen")
    [made] = at_stripe.api().v1.refunds.list().data
    at_stripe.tell("refunds", refund=made.id, outcome=outcome)
    assert reconcile.reconcile(at=now()).refunds_count == 0
    assert reconcile.reconcile(at=now() + timedelta(minutes=6)).refunds_count == 1
    assert bought.left == left
    assert reconcile.reconcile(at=now() + timedelta(minutes=6)).refunds_count == 0


def test_a_refund_made_at_stripe_takes_its_share_once(at_stripe):
    bought = buy(at_stripe)
    api = at_stripe.api()
    for amount in (333, 333, 334):
        api.v1.refunds.create({"payment_intent": bought.intent_id, "amount": amount})
    hear(at_stripe, reverse=True, times=2)
    assert Refund.objects.filter(microtokens__isnull=True).count() == 3
    assert (taken(bought), bought.state) == ((500, 0, 0), "refunded")


def test_a_refund_made_at_stripe_of_a_payment_that_we_do_not_know_yet(at_stripe):
    bought = buy(at_stripe, fulfilled=False)
    session = at_stripe.api().v1.checkout.sessions.retrieve(bought.session_id)
    at_stripe.api().v1.refunds.create(
        {"payment_intent": str(session.payment_intent), "amount": 500}
    )
    hear(at_stripe, "refund.created")
    assert (bought.left, taken(bought)) == (250, (250, 0, 0))
    hear(at_stripe)
    assert taken(bought) == (250, 0, 0)


def test_a_refund_of_which_no_event_tells_is_found(at_stripe):
    bought = buy(at_stripe)
    at_stripe.api().v1.refunds.create({"payment_intent": bought.intent_id})
    assert reconcile.look_back(at=now()) == 1
    assert bought.state == "refunded"
    assert reconcile.look_back(at=now()) == 1
    assert Refund.objects.count() == 1


def test_refunds_of_other_payments_are_none_of_ours(at_stripe):
    api = at_stripe.api()
    intent = api.v1.payment_intents.create(
        {"amount": 500, "currency": "eur", "confirm": True, "payment_method": "pm_card_visa"}
    )
    api.v1.refunds.create({"payment_intent": intent.id})
    hear(at_stripe)
    assert not Refund.objects.exists()


def test_what_stripe_refuses_is_over_and_the_tokens_are_there_again(at_stripe):
    bought = buy(at_stripe)
    bought.refund()
    at_stripe.api().v1.refunds.create({"payment_intent": bought.intent_id})
    send()
    failure = RefundFailure.objects.get()
    assert (failure.kind, bought.left) == ("refused", 500)
    call = StripeCall.objects.get(operation="refund.create")
    assert not troubles.standing(at=now()).filter(pk=call.pk).exists()
    with pytest.raises(NothingToAskAgain):
        troubles.ask_again(call_id=call.pk, at=now())
    hear(at_stripe)
    assert (bought.state, bought.left) == ("refunded", 0)


def test_the_same_key_asks_once_and_not_for_another_top_up(at_stripe):
    bought = buy(at_stripe)
    key = uuid.uuid4()
    assert bought.refund(100, idempotency_key=key) == bought.refund(100, idempotency_key=key)
    send()
    assert refunded(bought) == [(200, "succeeded")]
    other = buy_again(at_stripe, bought.shop, bought.customer, price=EUR_10)
    with pytest.raises(KeyReused):
        other.refund(100, idempotency_key=key)


@pytest.mark.parametrize(
    ("kind", "times"), [("reset_before", 3), ("reset_after_commit", 3), ("status", 1)]
)
def test_a_refund_whose_answer_is_lost_is_made_once(at_stripe, kind, times):
    bought = buy(at_stripe)
    bought.refund(100)
    more = {"status": 503, "after_commit": True} if kind == "status" else {}
    at_stripe.fault(kind=kind, path="^/v1/refunds$", times=times, **more)
    send()
    for minutes in (1, 10, 70, 80):
        at = now() + timedelta(minutes=minutes)
        outbox.send_due(at=at)
        reconcile.reconcile(at=at)
    assert refunded(bought) == [(200, "succeeded")]
    assert taken(bought) == (100, 0, 0)
    assert TopUpReversal.objects.count() == 2


def test_a_run_that_is_voided_while_a_refund_is_under_way_gives_nothing_twice(at_stripe):
    bought = buy(at_stripe)
    run = builders.new_run(bought.customer, 100, occurred_at=now(), run_id="wrong")
    builders.accept(bought.customer, run, at=now())
    builders.use(bought.customer, 100, occurred_at=now())
    bought.refund()
    account = accounts.account(account_id=bought.customer.account_id)
    corrections.void(account=account, run_id="wrong", reason="", idempotency_key="v", at=now())
    send()
    assert (bought.left, taken(bought)) == (100, (300, 0, 0))


@pytest.mark.parametrize(
    ("price", "tokens", "amount"),
    [
        (Money(1_000, "JPY"), 100, 200),
        (Money(1_000, "JPY"), 1, 2),
        (Money(5_000, "ISK"), 100, 1_000_00),
        (Money(50_000, "UGX"), 1, 100_00),
        (Money(5_000, "UGX"), 99, 990_00),
        (Money(5_003, "UGX"), 99, 990_00),
        (Money(10, "KWD"), 100, 2_000),
    ],
)
def test_currencies_have_their_own_smallest_part(at_stripe, settings, price, tokens, amount):
    settings.CURRENCIES = (*settings.CURRENCIES, "ISK", "UGX")
    bought = buy(at_stripe, price=price)
    bought.refund(tokens)
    send()
    assert refunded(bought) == [(amount, "succeeded")]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"amount": Money(5, "USD")}, "paid in EUR"),
        ({"amount": Money("10.01", "EUR")}, "have not been refunded"),
        ({"tokens": 501}, "have not been refunded"),
        ({"tokens": 0}, "no money"),
    ],
)
def test_what_cannot_be_refunded_is_refused_in_words(at_stripe, asked, says):
    bought = buy(at_stripe)
    with pytest.raises(NotRefundable, match=says):
        bought.refund(**asked, force=True)
    assert (bought.left, StripeCall.objects.filter(operation="refund.create").count()) == (500, 0)


def test_a_top_up_that_is_not_paid_cannot_be_refunded(at_stripe):
    bought = buy(at_stripe, fulfilled=False)
    with pytest.raises(NotRefundable, match="not paid"):
        bought.refund()
