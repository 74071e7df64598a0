"""An invoice's way through the outbox: what Stripe is sent, and every way of cutting it short."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from djmoney.money import Money

from billing import closing, dunning, invoicing
from billing.errors import StripeUnavailable
from billing.models import (
    Customer,
    Invoice,
    InvoiceFinalization,
    InvoiceGivenUp,
    InvoiceLine,
    InvoicePayment,
    InvoicePaymentFailure,
    OverageStep,
    StripeCall,
    StripeEvent,
)
from billing.stripe import calls, chains, gateway, inbox, outbox, reconcile
from ledger.value import Tier
from tests import builders
from tests.billing.stripe_world import deliver, send_all
from tests.builders import NOVEMBER, OCTOBER

pytestmark = pytest.mark.django_db

CHAIN = [
    "customer.create",
    "invoice.create",
    "card.attach",
    "invoice.lines.0",
    "card.default",
    "invoice.verify",
    "invoice.finalize",
    "invoice.pay",
]
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


def now():
    return datetime.now(UTC)


def scene(*, starts_at=OCTOBER, terms=None, **changed):
    """A customer whose first period's invoice of EUR 1,500 is on its way."""
    shop = builders.shop()
    customer = builders.customer(shop, **changed)
    version = builders.plan_version(shop, **terms or {})
    builders.subscription(customer, version, starts_at=starts_at)
    return customer


def invoices_at(at_stripe):
    return at_stripe.api().v1.invoices.list({"limit": 100}).data


def the_invoice_is_paid_once(at_stripe):
    [at_theirs] = invoices_at(at_stripe)
    assert (at_theirs.status, at_theirs.amount_paid) == ("paid", 150_000)
    [customer] = at_stripe.api().v1.customers.list({}).data
    assert at_theirs.customer == customer.id == Customer.objects.get().stripe_customer_id
    [line_items] = [at_stripe.api().v1.invoices.line_items.list(at_theirs.id).data]
    assert [line.amount for line in line_items] == [50_000, 100_000]
    assert len([one for one in at_stripe.api().v1.charges.list({}).data if one.paid]) == 1
    assert InvoicePayment.objects.get().amount == Money(1_500, "EUR")


def test_an_invoice_is_created_filled_verified_finalized_and_paid(at_stripe):
    customer = scene()
    send_all(now())
    done = StripeCall.objects.filter(done_at__isnull=False).order_by("id")
    assert sorted(done.values_list("operation", flat=True)) == sorted(CHAIN)
    assert not outbox.waiting().exists()
    the_invoice_is_paid_once(at_stripe)

    invoice = Invoice.objects.get()
    finalization = InvoiceFinalization.objects.get()
    [at_theirs] = invoices_at(at_stripe)
    assert finalization.stripe_invoice_id == at_theirs.id
    assert finalization.number == at_theirs.number
    assert finalization.hosted_url == at_theirs.hosted_invoice_url
    assert finalization.total == Money(1_500, "EUR")
    assert (at_theirs.metadata or {})["invoice_id"] == str(invoice.pk)
    assert customer.invoices.get() == invoice


def test_keys_follow_from_what_a_call_is_about(at_stripe):
    scene()
    send_all(now())
    invoice = Invoice.objects.get()
    keys = set(StripeCall.objects.values_list("idempotency_key", flat=True))
    assert f"development:invoice.pay:{invoice.pk}:1" in keys
    sent = {request["idempotency_key"] for request in at_stripe.received("^/v1/")}
    assert sent == keys - {f"development:invoice.verify:{invoice.pk}:1"}


def test_a_customer_with_days_to_pay_is_sent_the_invoice_and_pays_on_its_page(at_stripe):
    scene(payment_days=30, stripe_payment_method_id="")
    send_all(now())
    finalization = InvoiceFinalization.objects.get()
    assert calls.done(operation=calls.INVOICE_SEND, aggregate_id=finalization.invoice_id)
    assert not InvoicePayment.objects.exists()
    at_stripe.pay(finalization.hosted_url)
    [event] = at_stripe.events("invoice.paid")
    deliver(event)
    inbox.act_on_due(at=now())
    assert InvoicePayment.objects.get().amount == Money(1_500, "EUR")


def test_the_overage_of_a_closed_period_is_paid_to_the_cent(at_stripe):
    customer = scene(terms=builders.billed())
    builders.use(customer, 1_251, occurred_at=OCTOBER + HOUR)
    closing.close_due(at=NOVEMBER + 24 * HOUR)
    send_all(now())
    paid = {payment.invoice.occasion: payment.amount for payment in InvoicePayment.objects.all()}
    assert paid == {"opening": Money(1_500, "EUR"), "closing": Money("1500.02", "EUR")}
    sums = at_stripe.api().v1.invoices.list({}).data
    assert sorted(one.total for one in sums) == [150_000, 150_002]


@pytest.mark.parametrize("killed_at", range(2 * len(CHAIN)))
def test_a_worker_killed_anywhere_in_the_chain_is_resumed_and_nothing_is_done_twice(
    at_stripe, monkeypatch, killed_at
):
    """Even numbers: killed before Stripe is asked; odd: after its answer, before we wrote it."""
    scene()
    send, count = chains.send, iter(range(1_000))

    class Killed(BaseException):
        pass

    def send_and_die(call, request):
        number = next(count)
        if killed_at == 2 * number:
            raise Killed
        reply = send(call, request)
        if killed_at == 2 * number + 1:
            raise Killed
        return reply

    monkeypatch.setattr(chains, "send", send_and_die)
    at = now()
    with pytest.raises(Killed):
        outbox.send_due(at=at)
    outbox.send_due(at=at + MINUTE)  # the dead worker's lease still holds
    outbox.send_due(at=at + outbox.LEASE + MINUTE)
    outbox.send_due(at=at + 2 * outbox.LEASE + MINUTE)
    assert not outbox.waiting().exists()
    the_invoice_is_paid_once(at_stripe)


@pytest.mark.parametrize(
    "path",
    [
        "^/v1/customers$",
        "/attach$",
        "^/v1/customers/cus_",
        "^/v1/invoices$",
        "/add_lines$",
        "/finalize$",
        "/pay$",
    ],
)
@pytest.mark.parametrize("kind", ["reset_before", "reset_after_commit"])
def test_a_connection_that_breaks_is_tried_again_under_the_same_key(at_stripe, path, kind):
    scene()
    at_stripe.fault(kind=kind, path=path, times=4)  # more than the SDK's own tries
    at = now()
    outbox.send_due(at=at)
    [waiting] = outbox.waiting().filter(tries__gt=0)[:1]
    assert waiting.error_code == "stripe_unavailable"
    for minutes in range(1, 6):
        outbox.send_due(at=at + minutes * MINUTE)
    the_invoice_is_paid_once(at_stripe)
    assert StripeCall.objects.filter(attempt__gt=1).count() == 0


def test_when_stripe_asks_us_to_slow_down_we_stop_and_go_on_later(at_stripe):
    scene()
    at_stripe.fault(kind="status", status=429, path="^/v1/invoices$")
    at = now()
    outbox.send_due(at=at)
    assert len(at_stripe.received("^/v1/invoices$")) == 1, "429 is not repeated at once"
    tried = StripeCall.objects.filter(tries__gt=0).order_by("id")
    assert list(tried.values_list("operation", flat=True)) == ["customer.create", "invoice.create"]
    outbox.send_due(at=at + MINUTE)
    the_invoice_is_paid_once(at_stripe)


@pytest.mark.parametrize(
    "path", ["^/v1/customers$", "^/v1/invoices$", "/add_lines$", "/finalize$", "/pay$"]
)
@pytest.mark.parametrize("after_commit", [True, False])
def test_a_key_that_remembers_a_fault_of_stripes_is_settled_by_looking(
    at_stripe, path, after_commit
):
    scene()
    at_stripe.fault(kind="status", status=500, path=path, after_commit=after_commit)
    at = now()
    outbox.send_due(at=at)
    [parked] = StripeCall.objects.filter(parked_at__isnull=False)
    assert parked.error_code == outbox.KEY_POISONED
    for minutes in range(6, 9):
        reconcile.reconcile(at=at + minutes * MINUTE)
        outbox.send_due(at=at + minutes * MINUTE)
    the_invoice_is_paid_once(at_stripe)
    assert not InvoicePaymentFailure.objects.exists()


def test_a_call_first_sent_20_hours_ago_is_not_repeated_but_looked_up(at_stripe):
    scene()
    at_stripe.fault(kind="reset_after_commit", path="^/v1/invoices$", times=3)
    at = now()
    outbox.send_due(at=at)
    late = at + outbox.KEY_GOOD_FOR + MINUTE
    outbox.send_due(at=late)
    [parked] = StripeCall.objects.filter(parked_at__isnull=False)
    assert parked.error_code == outbox.KEY_TOO_OLD
    reconcile.reconcile(at=late)
    outbox.send_due(at=late)
    the_invoice_is_paid_once(at_stripe)


def test_a_draft_that_differs_from_our_lines_is_never_finalized(at_stripe):
    scene()
    # Somebody changes the draft on the dashboard before we verify it.
    for _ in range(5):
        call = outbox.waiting().filter(operation__in=["customer.create", "invoice.create"]).first()
        if call is None:
            break
        outbox.send(call_id=call.pk, at=now())
    [draft] = invoices_at(at_stripe)
    at_stripe.api().v1.invoices.add_lines(
        draft.id, {"lines": [{"amount": 1, "description": "surprise"}]}
    )
    send_all(now())
    [parked] = StripeCall.objects.filter(parked_at__isnull=False)
    assert (parked.operation, parked.error_code) == ("invoice.verify", "payment_does_not_match")
    assert invoices_at(at_stripe)[0].status == "draft"
    # No reconciliation decides this: a person does.
    reconcile.reconcile(at=now() + HOUR)
    send_all(now() + HOUR)
    assert invoices_at(at_stripe)[0].status == "draft"
    assert not InvoiceFinalization.objects.exists()


def test_a_declined_card_is_a_fact_and_the_invoice_stays_open(at_stripe):
    scene(stripe_payment_method_id="pm_card_chargeCustomerFail")
    send_all(now())
    failure = InvoicePaymentFailure.objects.get()
    assert failure.code == "card_declined"
    assert StripeCall.objects.get(operation="invoice.pay").refused_at is not None
    assert not InvoicePayment.objects.exists()
    # Paid on the page later: the next look finds it.
    at_stripe.pay(InvoiceFinalization.objects.get().hosted_url)
    reconcile.reconcile(at=now() + 6 * MINUTE)
    assert InvoicePayment.objects.exists()


def test_an_invoice_that_was_paid_before_we_charged_it_is_no_declined_card(at_stripe):
    scene()
    # The buyer is faster than our `pay`.
    outbox_until("invoice.pay")
    at_stripe.pay(InvoiceFinalization.objects.get().hosted_url)
    send_all(now())
    assert StripeCall.objects.get(operation="invoice.pay").done_at is not None
    assert InvoicePayment.objects.exists()
    assert not InvoicePaymentFailure.objects.exists()


def test_a_charge_that_is_repeated_and_declined_again_is_recorded_once(at_stripe):
    scene(stripe_payment_method_id="pm_card_chargeCustomerFail")
    send_all(now())
    assert InvoicePaymentFailure.objects.count() == 1
    dunning.advance(at=now() + timedelta(days=1))
    send_all(now() + timedelta(days=1))
    for _ in range(2):
        for event in at_stripe.events("invoice.payment_failed"):
            deliver(event)
        inbox.act_on_due(at=now())
        reconcile.reconcile(at=now() + 6 * MINUTE)
    assert InvoicePaymentFailure.objects.count() == 2
    assert not InvoicePayment.objects.exists()


@pytest.mark.parametrize("kind", ["void", "uncollectible"])
def test_what_the_vendor_gave_up_at_stripe_is_a_fact_and_is_not_asked_for_again(at_stripe, kind):
    scene(payment_days=30, stripe_payment_method_id="")
    send_all(now())
    [at_theirs] = invoices_at(at_stripe)
    give_up = {
        "void": at_stripe.api().v1.invoices.void_invoice,
        "uncollectible": at_stripe.api().v1.invoices.mark_uncollectible,
    }
    give_up[kind](at_theirs.id)
    for number in (1, 2):
        reconciled = reconcile.reconcile(at=now() + 6 * number * MINUTE)
        assert reconciled.invoices_count == (1 if number == 1 else 0)
    assert InvoiceGivenUp.objects.get().kind == kind
    assert invoicing.state(invoice=Invoice.objects.get()) == kind


def test_a_key_grows_old_from_the_moment_it_is_sent_not_from_a_try_that_sent_nothing(at_stripe):
    """The charge waits for the card, and the card for Stripe, for a day."""
    scene()
    outbox_until("invoice.pay")
    StripeCall.objects.filter(operation="card.default").update(
        done_at=None, next_try_at=now() + 30 * HOUR
    )
    for hours in (0, 10, 24):
        outbox.send_due(at=now() + hours * HOUR)
    pay = StripeCall.objects.get(operation="invoice.pay")
    assert (pay.first_sent_at, pay.parked_at) == (None, None)
    assert pay.tries > 0
    outbox.send_due(at=now() + 31 * HOUR)
    outbox.send_due(at=now() + 32 * HOUR)
    the_invoice_is_paid_once(at_stripe)


def outbox_until(operation):
    """Send what waits until this call is next."""
    while True:
        call = outbox.waiting().exclude(operation=operation).order_by("id").first()
        if call is None:
            break
        outbox.send(call_id=call.pk, at=now())
    assert outbox.waiting().get().operation == operation


def test_a_card_that_stripe_refuses_leaves_a_customer_who_pays_otherwise(at_stripe):
    scene(stripe_payment_method_id="pm_card_chargeDeclined")
    send_all(now())
    refused = StripeCall.objects.filter(refused_at__isnull=False)
    assert sorted(refused.values_list("operation", flat=True)) == ["card.attach", "invoice.pay"]
    at_stripe.pay(InvoiceFinalization.objects.get().hosted_url)
    reconcile.reconcile(at=now() + 6 * MINUTE)
    assert InvoicePayment.objects.exists()


def test_a_key_that_stripe_does_not_accept_stops_the_outbox(at_stripe, settings):
    scene()
    settings.STRIPE_SECRET_KEY = "not_a_key"
    assert outbox.send_due(at=now()) == 1
    assert StripeCall.objects.filter(tries__gt=0).get().error_code == "stripe_closed"
    settings.STRIPE_SECRET_KEY = "sk_test_of_the_tests"
    send_all(now() + MINUTE)
    the_invoice_is_paid_once(at_stripe)


def test_nothing_is_sent_while_stripe_is_away_and_all_when_it_is_back(settings):
    settings.STRIPE_API_BASE = "http://127.0.0.1:9"
    scene()
    send_all(now())
    call = StripeCall.objects.get(operation="customer.create")
    assert (call.tries, call.error_code) == (1, "stripe_unavailable")
    assert call.next_try_at is not None
    assert call.done_at is None
    with pytest.raises(StripeUnavailable):
        gateway.customers(email="a@example.com", since=OCTOBER)


def test_an_invoice_that_costs_nothing_is_paid_by_being_issued(at_stripe):
    free = builders.billed(platform_fee=Decimal(0), allotment_price=Decimal(0))
    customer = scene(terms=free)
    builders.use(customer, 1_100, occurred_at=OCTOBER + HOUR)
    closing.close_due(at=NOVEMBER + 24 * HOUR)
    send_all(now())
    assert InvoicePayment.objects.get().amount == Money(0, "EUR")
    assert not StripeCall.objects.filter(operation="invoice.pay").exists()


def test_yen_are_sent_as_yen(at_stripe):
    shop = builders.shop()
    customer = builders.customer(shop, currency="JPY")
    version = builders.plan_version(
        shop, currency="JPY", platform_fee=Decimal(80), allotment_price=Decimal(0)
    )
    builders.subscription(customer, version)
    send_all(now())
    assert invoices_at(at_stripe)[0].total == 80
    assert InvoicePayment.objects.get().amount == Money(80, "JPY")


@pytest.mark.parametrize("reverse", [False, True])
def test_events_of_an_invoice_in_any_order_and_number_lead_to_the_same_facts(at_stripe, reverse):
    scene()
    # Everything up to `pay` is written down by us; what Stripe tells comes twice and disordered.
    send_all(now())
    events = at_stripe.events()
    for event in [*(reversed(events) if reverse else events), *events]:
        assert deliver(event).status_code == 200
    inbox.act_on_due(at=now())
    the_invoice_is_paid_once(at_stripe)
    waiting = StripeEvent.objects.filter(done_at__isnull=True, ignored_at__isnull=True)
    assert not waiting.exists()
    assert InvoiceFinalization.objects.count() == 1


def test_a_paid_invoice_whose_answer_and_webhook_were_lost_is_found(at_stripe):
    scene()
    at_stripe.fault(kind="reset_after_commit", path="/pay$", times=3)
    at = now()
    outbox.send_due(at=at)
    assert invoices_at(at_stripe)[0].status == "paid"
    assert not InvoicePayment.objects.exists()
    reconcile.reconcile(at=at + 6 * MINUTE)
    assert InvoicePayment.objects.exists()
    outbox.send_due(at=at + 6 * MINUTE)
    the_invoice_is_paid_once(at_stripe)


def test_lines_beyond_a_hundred_go_in_chunks_and_all_are_verified(at_stripe):
    a_euro_a_microtoken = (Tier(up_to_microtokens=None, micros_per_token=10**12),)
    customer = scene(terms=builders.billed(overage_tiers=a_euro_a_microtoken))
    builders.use(customer, 1_001, occurred_at=OCTOBER + HOUR)
    invoice = Invoice.objects.get()
    period = invoice.period
    OverageStep.objects.create(
        period=period,
        number=1,
        from_microtokens=0,
        to_microtokens=148,
        micros=148_000_000,
        billed_at=OCTOBER + HOUR,
    )
    InvoiceLine.objects.bulk_create(
        InvoiceLine(
            invoice=invoice,
            position=position,
            kind="overage",
            period=period,
            description=f"stretch {position}",
            microtokens=1,
            from_microtokens=position - 3,
            to_microtokens=position - 2,
            micros=1_000_000,
            amount=Money(1, "EUR"),
        )
        for position in range(3, 151)
    )
    send_all(now())
    assert StripeCall.objects.filter(operation__startswith="invoice.lines").count() == 2
    assert InvoicePayment.objects.get().amount == Money(1_500 + 148, "EUR")
    assert customer.pk
