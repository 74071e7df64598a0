"""Several workers doing the same at the same time: each thing is done once."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections, transaction
from djmoney.money import Money

from billing import alerts, auto_top_ups, closing, mail, payment_methods, subscriptions
from billing.models import (
    AlertMessage,
    Invoice,
    InvoiceLine,
    Period,
    PeriodClosing,
    PeriodSettlement,
    StripeCall,
    TopUpCharge,
)
from billing.stripe import gateway, outbox
from billing.stripe.facts import MethodFacts
from ledger import queries
from tests import builders
from tests.builders import DAY, NOVEMBER, OCTOBER, TOKEN

WORKERS = 6
CLOSING = NOVEMBER + DAY

pytestmark = pytest.mark.django_db(transaction=True)


def all_at_once(*works, at):
    def in_a_thread(work):
        try:
            return work(at=at)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(WORKERS) as pool:
        return [done.result() for done in [pool.submit(in_a_thread, work) for work in works]]


def scene():
    shop = builders.shop()
    customers = [builders.customer(shop) for _ in range(3)]
    version = builders.plan_version(shop, **builders.billed())
    for customer in customers:
        builders.subscription(customer, version)
        builders.use(customer, 1_300, occurred_at=OCTOBER + DAY)
    return customers


def test_tokens_that_run_short_are_bought_once():
    shop = builders.shop()
    buyer, pack = builders.customer(shop), builders.pack(shop)
    facts = MethodFacts(
        stripe_id="pm_1",
        customer_id="cus_1",
        kind="card",
        brand="visa",
        last4="4242",
        expires_year=2034,
        expires_month=12,
    )
    payment_methods.keep(customer=buyer, facts=facts, at=NOVEMBER)
    auto_top_ups.turn_on(
        customer_id=buyer.pk,
        pack_id=pack.pk,
        threshold_microtokens=TOKEN,
        ceiling=Money(10_000, "EUR"),
        by=None,
        idempotency_key=uuid.uuid4(),
        at=NOVEMBER,
    )
    assert sum(all_at_once(*[auto_top_ups.evaluate] * WORKERS, at=NOVEMBER)) == 1
    assert TopUpCharge.objects.count() == 1


def test_periods_are_opened_and_closed_once():
    customers = scene()
    all_at_once(*[closing.close_due, subscriptions.renew_due] * WORKERS, at=CLOSING)
    assert Period.objects.count() == 6
    assert PeriodSettlement.objects.count() == PeriodClosing.objects.count() == 3
    assert Invoice.objects.filter(occasion="closing").count() == 3
    overage = InvoiceLine.objects.filter(kind="overage")
    assert sum(line.microtokens or 0 for line in overage) == 3 * 300 * TOKEN
    for customer in customers:
        lots = queries.lots(account_ids=[customer.account_id])
        assert len([lot for lot in lots if lot.source == "allotment"]) == 2


def test_alerts_are_raised_and_mailed_once(mailoutbox):
    scene()
    at = OCTOBER + 2 * DAY
    assert sum(all_at_once(*[alerts.evaluate] * WORKERS, at=at)) == 3
    assert AlertMessage.objects.count() == 3
    assert sum(all_at_once(*[mail.send_due] * WORKERS, at=at)) == 3
    assert len(mailoutbox) == 3


def test_calls_are_sent_once(at_stripe):
    scene()
    all_at_once(*[outbox.send_due] * WORKERS, at=CLOSING)
    # A worker that found nothing free stopped; what was being sent then is followed up now.
    outbox.send_due(at=CLOSING + DAY)
    assert not outbox.waiting().exists()
    sent = [request["idempotency_key"] for request in at_stripe.received("^/v1/")]
    assert len(sent) == len(set(sent))
    paid = at_stripe.api().v1.invoices.list({"limit": 100}).data
    assert [one.status for one in paid] == ["paid"] * 3
    assert StripeCall.objects.filter(tries__gt=1).count() == 0


def test_stripe_is_never_called_inside_a_transaction():
    with (
        pytest.raises(AssertionError, match="inside a transaction"),
        transaction.atomic(),
    ):
        gateway.invoice(stripe_invoice_id="in_1")
