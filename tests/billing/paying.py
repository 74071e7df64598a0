"""A customer who pays in all ways, and what a fault might leave of it."""

import uuid

from djmoney.money import Money

from billing import auto_top_ups, payment_methods, top_up_charges, top_ups
from billing.models import (
    CardSetup,
    DunningStep,
    Invoice,
    Restriction,
    TopUpCharge,
)
from billing.stripe.facts import MethodFacts
from tests.builders import DAY, NOVEMBER, TOKEN


def pay_in_all_ways(customer, pack):
    """It keeps a card, has tokens bought by themselves, and was restricted for a while."""
    _keeps_a_card(customer)
    _buys_by_itself(customer, pack)
    invoice = Invoice.objects.filter(customer=customer)[0]
    DunningStep.objects.create(
        invoice=invoice, kind="last_notice", charges=False, taken_at=NOVEMBER - DAY
    )
    Restriction.objects.create(
        invoice=invoice, customer=customer, restricted_at=NOVEMBER, lifted_at=NOVEMBER
    )


def _keeps_a_card(customer):
    facts = MethodFacts(
        stripe_id="pm_1",
        customer_id="cus_1",
        kind="card",
        brand="visa",
        last4="4242",
        expires_year=2034,
        expires_month=12,
    )
    method = payment_methods.keep(customer=customer, facts=facts, at=NOVEMBER)
    setup = payment_methods.begin_setup(
        customer_id=customer.pk, idempotency_key=uuid.uuid4(), at=NOVEMBER
    )
    CardSetup.objects.filter(pk=setup.pk).update(method=method, saved_at=NOVEMBER)


def _buys_by_itself(customer, pack):
    """A pack was bought, then the bank said no."""
    auto = auto_top_ups.turn_on(
        customer_id=customer.pk,
        pack_id=pack.pk,
        threshold_microtokens=2_000 * TOKEN,
        ceiling=Money(1_200, "EUR"),
        by=None,
        idempotency_key=uuid.uuid4(),
        at=NOVEMBER,
    )
    for day in (1, 2):
        charge = top_up_charges.begin(
            auto_top_up=auto,
            quantity=2,
            method=payment_methods.kept(customer=customer)[0],
            month=NOVEMBER,
            available_microtokens=0,
            at=NOVEMBER + day * DAY,
        )
        if day == 1:
            top_ups.grant_paid(
                top_up=charge.top_up,
                stripe_payment_intent_id="pi_2",
                amount=charge.top_up.price,
                paid_at=NOVEMBER + DAY,
                at=NOVEMBER + DAY,
            )
            TopUpCharge.objects.filter(pk=charge.pk).update(ended_at=NOVEMBER + DAY)
        else:
            top_up_charges.record_failure(
                top_up_id=charge.top_up_id,
                stripe_payment_intent_id="pi_3",
                code="card_declined",
                decline_code="lost_card",
                message="Your card was declined.",
                at=NOVEMBER + 2 * DAY,
            )


FAULTS_OF_PAYING = {
    "what is bought by itself in a month stays under the customer's ceiling": [
        "UPDATE billing_autotopup SET ceiling = 1_199",
        "UPDATE billing_topup SET price = price + 0.01 WHERE id IN"
        " (SELECT top_up_id FROM billing_topupcharge)",
    ],
    "a charge that is under way or went well is as its top-up is": [
        "UPDATE billing_topupcharge SET ended_at = NULL WHERE failed_at IS NULL",
        "UPDATE billing_topupcharge SET failed_at = NULL",
    ],
    "a charge, its top-up, its terms and its card are one customer's": [
        "UPDATE billing_topupcharge SET customer_id = (SELECT max(id) FROM billing_customer)",
        "UPDATE billing_paymentmethod SET customer_id = (SELECT max(id) FROM billing_customer)",
    ],
    "a declined charge pauses what it was made for, and nothing else does": [
        "DELETE FROM billing_autotopuppause",
        "UPDATE billing_topupcharge SET failed_at = ended_at",
    ],
    "what a customer is charged with is its own": [
        "UPDATE billing_paymentmethodchoice SET customer_id ="
        " (SELECT max(id) FROM billing_customer)",
    ],
    "a card that was given is its giver's": [
        "UPDATE billing_cardsetup SET customer_id = (SELECT max(id) FROM billing_customer)",
    ],
    "an account gets no new holds exactly while its customer is restricted": [
        "UPDATE ledger_standing SET overdue_since = now()",
        "UPDATE billing_restriction SET lifted_at = NULL",
    ],
    "what is paid or void restricts nobody": ["UPDATE billing_restriction SET lifted_at = NULL"],
    "an invoice restricts its own customer, and nobody without a last notice": [
        "UPDATE billing_restriction SET customer_id = (SELECT max(id) FROM billing_customer)",
        "DELETE FROM billing_dunningstep",
        "UPDATE billing_dunningstep SET taken_at = taken_at + '1 day'",
    ],
}
