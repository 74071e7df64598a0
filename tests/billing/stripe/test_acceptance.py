"""Items of the list in this package's docstring that are no other file's; and that list itself."""

import copy
import re
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from djmoney.money import Money

from billing import credit_notes, top_ups
from billing.models import (
    CreditNoteIssued,
    Customer,
    Invoice,
    InvoiceFinalization,
    InvoicePayment,
    RefundSuccess,
    StripeCall,
    TopUpFulfilment,
    TopUpReversal,
)
from billing.stripe import chains, inbox, outbox, reconcile, troubles
from ledger import accounts, corrections
from tests import billing as tests_of_billing
from tests import builders
from tests.billing import stripe as this_package
from tests.billing.buying import Bought, buy, hear, now, send
from tests.billing.stripe_world import deliver
from tests.billing.test_invoices_at_stripe import scene
from tests.builders import TOKEN

pytestmark = pytest.mark.django_db

ITEM = re.compile(r"^    \S.* (test_\w+): (\w+)$")
# Every POST on the way from a new customer to a refund and a credit note.
POSTS = [
    "^/v1/customers$",
    "/attach$",
    "^/v1/customers/cus_",
    "^/v1/checkout/sessions$",
    "^/v1/refunds$",
    "^/v1/invoices$",
    "/add_lines$",
    "/finalize$",
    "/pay$",
    "^/v1/credit_notes$",
]


def test_every_item_names_a_test_that_there_is() -> None:
    root = Path(tests_of_billing.__file__).parent.parent
    files = {path.stem: path.read_text() for path in root.rglob("test_*.py")}
    lines = [line for line in (this_package.__doc__ or "").splitlines() if line.startswith("    ")]
    assert len(lines) > 40
    for line in lines:
        item = ITEM.match(line)
        assert item, line
        file, words = item.groups()
        assert re.search(rf"^def test_\w*{words}", files[file], re.M), (file, words)


def credited(customer: Customer) -> None:
    """The customer's invoice is credited by EUR 100."""
    invoice = customer.invoices.get()
    line = invoice.lines.order_by("position")[0]
    credit_notes.ask(
        invoice_id=invoice.pk,
        amounts={line.pk: Money(100, "EUR")},
        asked_by=None,
        idempotency_key=uuid.uuid4(),
        at=now(),
    )


def nothing_is_left_to_do(at) -> None:
    for minutes in (2, 10, 40, 100):
        later = at + timedelta(minutes=minutes)
        outbox.send_due(at=later)
        inbox.act_on_due(at=later)
        reconcile.reconcile(at=later)
    assert not outbox.waiting().exists()


def all_is_done_once(at_stripe) -> None:
    """One customer, one invoice paid and credited, one pack bought and refunded in part."""
    api = at_stripe.api()
    charges = {one.amount: one.amount_refunded for one in api.v1.charges.list().data if one.paid}
    assert charges == {150_000: 10_000, 60_000: 12_000}
    assert len(api.v1.customers.list().data) == 1
    assert [one.amount_paid for one in api.v1.invoices.list().data] == [150_000]
    assert len(api.v1.refunds.list().data) == 2
    assert [one.total for one in api.v1.credit_notes.list().data] == [10_000]
    assert (InvoicePayment.objects.count(), TopUpFulfilment.objects.count()) == (1, 1)
    assert (RefundSuccess.objects.count(), CreditNoteIssued.objects.count()) == (1, 1)
    assert TopUpReversal.objects.order_by("-number")[0].revoked_microtokens == 100 * TOKEN


def story(at_stripe, step) -> None:
    """From a new customer to a refund and a credit note; `step` lets what is due happen."""
    customer = scene()
    step()
    shop = builders.Shop(vendor=customer.vendor, unit_id=0, rate_card_id=0)
    top_up = top_ups.begin(
        customer_id=customer.pk,
        pack_id=builders.pack(shop).pk,
        idempotency_key=uuid.uuid4(),
        at=now() - timedelta(minutes=2),
    )
    step()
    [session] = at_stripe.api().v1.checkout.sessions.list().data
    at_stripe.pay(session.url)
    top_ups.fulfil(top_up_id=top_up.pk, stripe_session_id=session.id, at=now())
    bought = Bought(
        stripe=at_stripe,
        shop=shop,
        customer=customer,
        top_up_id=top_up.pk,
        session_id=session.id,
    )
    bought.refund(100)
    credited(customer)
    step()


@pytest.mark.parametrize("path", POSTS)
def test_every_answer_is_lost_to_one_post_and_it_has_its_effect_once(at_stripe, path) -> None:
    """The connection breaks after the work, at each of the SDK's three tries."""
    at_stripe.fault(kind="reset_after_commit", path=path, times=3)
    story(at_stripe, lambda: nothing_is_left_to_do(now()))
    all_is_done_once(at_stripe)


@pytest.mark.parametrize(
    "operation", ["refund.create", "credit_note.preview", "credit_note.create"]
)
@pytest.mark.parametrize("is_answered", [False, True])
def test_a_worker_is_killed_at_any_step_and_all_is_done_once(
    at_stripe, monkeypatch, operation, is_answered
) -> None:
    """Before Stripe is asked, or after its answer and before we wrote it down."""
    send_it, killed = chains.send, iter([True])

    class Killed(BaseException):
        pass

    def send_and_die(call, request):
        dies = call.operation == operation and next(killed, False)
        if dies and not is_answered:
            raise Killed
        reply = send_it(call, request)
        if dies:
            raise Killed
        return reply

    def step() -> None:
        try:
            outbox.send_due(at=now())
        except Killed:
            nothing_is_left_to_do(now() + outbox.LEASE)
        else:
            nothing_is_left_to_do(now())

    monkeypatch.setattr(chains, "send", send_and_die)
    story(at_stripe, step)
    assert next(killed, None) is None
    all_is_done_once(at_stripe)


@pytest.mark.parametrize("reverse", [False, True])
def test_whatever_the_order_and_number_of_events_they_come_to_the_same(at_stripe, reverse) -> None:
    bought = buy(at_stripe, fulfilled=False)
    hear(at_stripe, "payment_intent.succeeded")
    bought.refund(100)
    send()
    dispute_id = bought.dispute(amount=500)
    bought.decide(dispute_id, "lost")
    hear(at_stripe, reverse=reverse, times=2)
    assert (bought.state, bought.left) == ("lost", 150)


def test_an_event_rendered_for_an_older_version_is_a_hint_like_any_other(at_stripe) -> None:
    """Fields that moved since are null in it; what counts is asked for."""
    bought = buy(at_stripe, fulfilled=False)
    [event] = at_stripe.events("checkout.session.completed")
    about = dict.fromkeys(event["data"]["object"])
    kept = {name: event["data"]["object"][name] for name in ("id", "object", "metadata")}
    old = {**event, "api_version": "2020-08-27", "data": {"object": about | kept}}
    assert deliver(old).status_code == 200
    inbox.act_on_due(at=now())
    assert bought.state == "granted"


def test_a_session_that_is_said_to_have_expired_and_was_paid_is_granted(at_stripe) -> None:
    bought = buy(at_stripe, fulfilled=False)
    [event] = at_stripe.events("checkout.session.completed")
    wrong = copy.deepcopy(event)
    wrong |= {"id": "evt_expired", "type": "checkout.session.expired"}
    wrong["data"]["object"]["status"] = "expired"
    deliver(wrong)
    deliver(event)
    inbox.act_on_due(at=now())
    assert (bought.state, bought.left) == ("granted", 500)


def test_a_refund_that_fails_and_a_void_give_nothing_twice(at_stripe) -> None:
    """Succeeded, failed, and meanwhile a run is given back: the balance is what was bought."""
    bought = buy(at_stripe, card="4000000000005126")
    run = builders.new_run(bought.customer, 100, occurred_at=now(), run_id="wrong")
    builders.accept(bought.customer, run, at=now())
    builders.use(bought.customer, 1, occurred_at=now())
    bought.refund()
    send()
    account = accounts.account(account_id=bought.customer.account_id)
    corrections.void(account=account, run_id="wrong", reason="", idempotency_key="v", at=now())
    at_stripe.advance(86_400)
    hear(at_stripe, times=2)
    assert (bought.left, bought.debt, bought.state) == (499, 0, "granted")


def test_an_invoice_with_no_place_to_tax_waits_until_there_is_one(at_stripe, settings) -> None:
    settings.STRIPE_TAX = True
    at_stripe.tell("tax", percent=20)
    customer = scene()
    send()
    assert not InvoiceFinalization.objects.exists()
    call = StripeCall.objects.get(operation="invoice.finalize")
    assert call.error_code == "customer_tax_location_invalid"
    [trouble] = troubles.of_books(book_ids=[customer.vendor.book_id], at=now())
    assert "For the tax Stripe needs the customer's address" in trouble.remedy
    theirs = Customer.objects.get(pk=customer.pk).stripe_customer_id
    address: Any = {"country": "FR", "line1": "1 rue", "postal_code": "75001"}
    at_stripe.api().v1.customers.update(theirs, {"address": address})
    troubles.ask_again(call_id=call.pk, at=now())
    send()
    assert InvoicePayment.objects.get().amount == Money(1_800, "EUR")
    assert Invoice.objects.count() == 1
