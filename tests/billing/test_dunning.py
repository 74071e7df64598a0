"""Dunning, against the simulator: what is charged again, who is told what, who gets no holds."""

from datetime import UTC, datetime, timedelta

import pytest
from django.core import mail as outgoing

from billing import closing, dunning, mail, payment_methods
from billing.dunning import State
from billing.models import (
    DunningStep,
    Invoice,
    InvoicePayment,
    InvoicePaymentFailure,
    Notice,
    Restriction,
    StripeCall,
)
from billing.stripe import inbox, outbox, reconcile
from billing.stripe import invoices as stripe_invoices
from ledger import holds, overdue
from ledger.errors import PaymentOverdue
from ledger.holds import NewHold
from tests import builders
from tests.billing.stripe_world import deliver, send_all
from tests.contract.scenes import submit

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)
PAY = "/pay$"
DECLINED = "pm_card_chargeCustomerFail"  # card_declined, generic_decline: it may do later
HARD = "lost_card"


def now():
    return datetime.now(UTC)


def scene(*, card=DECLINED, at=None, terms=None, **facts):
    """A customer whose first invoice was issued and charged, or sent; and when."""
    began = at or now()
    shop = builders.shop()
    buyer = builders.customer(shop, stripe_payment_method_id=card, **facts)
    version = builders.plan_version(shop, **(terms or {}))
    builders.subscription(buyer, version, starts_at=began, at=began)
    send_all(began)
    buyer.refresh_from_db()
    return buyer, began


def live(buyer, *moments):
    """Time passes: the sweep looks at each moment, and what it wrote is sent."""
    for at in moments:
        dunning.advance(at=at)
        send_all(at)


def days(began, *numbers):
    return [began + number * DAY for number in numbers]


def state(buyer, at):
    found = dunning.cases(customers=[buyer], at=at)
    return dunning.state(cases=found.get(buyer.pk, []))


def hold(buyer, at=None):
    asked = NewHold(
        run=f"run-{builders.number()}", account=buyer.code, workflow="review", microtokens=1
    )
    return holds.authorize_one(book_id=buyer.vendor.book_id, hold=asked, at=at or now())


def subjects():
    return [notice.subject for notice in Notice.objects.order_by("id")]


def attempts(at_stripe):
    return len(at_stripe.received(PAY))


def test_a_declined_card_is_charged_again_on_the_vendors_days_and_then_restricts(at_stripe):
    buyer, began = scene()
    assert attempts(at_stripe) == 1
    assert state(buyer, began) == State.PAST_DUE
    for day, charged in ((0.9, 1), (1, 2), (2.9, 2), (3, 3), (5, 4), (7, 5), (8, 5), (12.9, 5)):
        live(buyer, began + day * DAY, began + day * DAY)
        assert attempts(at_stripe) == charged, day
    assert InvoicePaymentFailure.objects.count() == 5
    hold(buyer)
    live(buyer, *days(began, 13, 13.5))
    assert state(buyer, began + 13.9 * DAY) == State.PAST_DUE
    live(buyer, *days(began, 14, 15, 30))
    assert state(buyer, began + 30 * DAY) == State.RESTRICTED
    with pytest.raises(PaymentOverdue):
        hold(buyer)
    assert attempts(at_stripe) == 5
    keys = {call.idempotency_key for call in StripeCall.objects.filter(operation="invoice.pay")}
    assert len(keys) == 5
    assert len(subjects()) == 5 + 2
    assert subjects()[-1].endswith("is not paid: no new runs")


def test_runs_that_happened_are_debited_while_holds_are_refused(at_stripe):
    buyer, began = scene()
    live(buyer, *days(began, 13, 14))
    builders.use(buyer, 100, occurred_at=now())
    with pytest.raises(PaymentOverdue):
        hold(buyer)


def test_a_payment_lifts_what_its_want_caused_in_the_same_moment(at_stripe):
    buyer, began = scene()
    live(buyer, *days(began, 13, 14))
    assert overdue.since(account_ids=[buyer.account_id])
    at_stripe.pay(Invoice.objects.get().finalization.hosted_url)
    for event in at_stripe.events("invoice.paid"):
        deliver(event)
    inbox.act_on_due(at=now())
    assert InvoicePayment.objects.exists()
    assert state(buyer, began + 14 * DAY) == State.CURRENT
    hold(buyer)
    restriction = Restriction.objects.get()
    assert restriction.lifted_at is not None
    assert subjects()[-1].endswith("all is well again")
    live(buyer, *days(began, 15, 40))
    assert attempts(at_stripe) == 2


def test_what_the_vendor_voids_is_lifted_and_what_it_writes_off_is_not(at_stripe):
    for give_up, lifted in (("mark_uncollectible", False), ("void_invoice", True)):
        buyer, began = scene()
        live(buyer, *days(began, 13, 14))
        invoice = Invoice.objects.get(customer=buyer)
        theirs = invoice.finalization.stripe_invoice_id
        getattr(at_stripe.api().v1.invoices, give_up)(theirs)
        reconcile.reconcile(at=now() + timedelta(minutes=6))
        live(buyer, *days(began, 15, 16))
        assert (Restriction.objects.get(invoice=invoice).lifted_at is not None) == lifted
        expected = State.CURRENT if lifted else State.RESTRICTED
        assert state(buyer, began + 16 * DAY) == expected


def test_it_is_lifted_when_the_last_of_several_invoices_is_paid(at_stripe):
    buyer, began = scene(at=now() - 60 * DAY)
    closing.close_due(at=began + 33 * DAY)
    send_all(began + 33 * DAY)
    live(buyer, *days(began, 13, 14, 46, 47))
    assert Restriction.objects.filter(lifted_at=None).count() == 2
    for invoice, lifted in zip(Invoice.objects.order_by("built_at"), (False, True), strict=True):
        at_stripe.pay(invoice.finalization.hosted_url)
        stripe_invoices.refresh(invoice_id=invoice.pk, at=now())
        assert (state(buyer, now()) == State.CURRENT) == lifted
        assert (overdue.since(account_ids=[buyer.account_id]) == {}) == lifted
    hold(buyer)


def test_a_card_that_is_refused_for_good_is_not_charged_again_until_there_is_another(at_stripe):
    at_stripe.fault(kind="decline", code=HARD, path=PAY, times=1)
    buyer, began = scene(card="pm_card_visa")
    live(buyer, *days(began, 1, 2, 3, 4))
    assert attempts(at_stripe) == 1
    assert (
        subjects()[1:]
        == [f"{buyer}: invoice {Invoice.objects.get().finalization.number} is still not paid"] * 2
    )
    assert "does not accept this card any more" in Notice.objects.latest("id").body
    # A new card is tried at once, not on the next of the days.
    _give_card(at_stripe, buyer, began + 4.1 * DAY)
    live(buyer, *days(began, 4.2, 4.3))
    assert attempts(at_stripe) == 2
    assert InvoicePayment.objects.exists()


def _give_card(at_stripe, buyer, at):
    api = at_stripe.api()
    method = api.v1.payment_methods.attach(
        "pm_card_mastercard", {"customer": buyer.stripe_customer_id}
    )
    api.v1.customers.update(
        buyer.stripe_customer_id, {"invoice_settings": {"default_payment_method": method.id}}
    )
    payment_methods.refresh(customer_id=buyer.pk, at=at)


def test_a_payment_that_wants_the_cardholder_asks_for_that_with_the_invoices_page(at_stripe):
    buyer, began = scene(card="pm_card_authenticationRequired")
    live(buyer, *days(began, 1, 3))
    assert attempts(at_stripe) == 1
    page = Invoice.objects.get().finalization.hosted_url
    mail.send_due(at=now())
    first = outgoing.outbox[0]
    assert "wants you to confirm this payment yourself" in first.body
    assert page in first.body
    assert buyer.email in first.to
    # Confirmed on that page, it is paid.
    asked = submit(page, "4000002500003155")
    intent = asked.text.split('name="challenge" value="')[1].split('"')[0]
    submit(page, challenge=intent, outcome="complete")
    reconcile.reconcile(at=now() + timedelta(minutes=6))
    assert state(buyer, began + 4 * DAY) == State.CURRENT


def test_an_invoice_to_be_paid_until_a_day_is_asked_for_from_the_day_after(at_stripe):
    buyer, began = scene(card="", payment_days=30)
    live(buyer, *days(began, 1, 29.9))
    assert state(buyer, began + 29.9 * DAY) == State.CURRENT
    assert subjects() == []
    live(buyer, *days(began, 30.1, 30.2, 31.1, 33.1))
    assert state(buyer, began + 33.1 * DAY) == State.PAST_DUE
    assert [one.split(" ", 3)[-1] for one in subjects()] == [
        "is overdue",
        "is still not paid",
        "is still not paid",
    ]
    live(buyer, *days(began, 44, 45.1))
    assert state(buyer, began + 45.1 * DAY) == State.RESTRICTED
    assert attempts(at_stripe) == 0


def test_a_customer_without_a_card_is_told_to_give_one(at_stripe):
    buyer, began = scene(card="")
    assert InvoicePaymentFailure.objects.get().message == "There is no card to charge."
    live(buyer, *days(began, 1, 3))
    assert attempts(at_stripe) == 1
    _give_card(at_stripe, buyer, began + 3.5 * DAY)
    live(buyer, *days(began, 3.6))
    assert state(buyer, began + 4 * DAY) == State.CURRENT


def test_a_plan_may_let_work_go_on(at_stripe):
    buyer, began = scene(terms={"dunning_policy": "nothing"})
    live(buyer, *days(began, 1, 3, 5, 7, 13, 14, 60))
    assert state(buyer, began + 60 * DAY) == State.PAST_DUE
    hold(buyer)
    assert not any("no new runs" in notice.body for notice in Notice.objects.all())


def test_a_vendor_chooses_its_days_and_its_grace(at_stripe):
    buyer, began = scene()
    vendor = buyer.vendor
    vendor.dunning_retry_days, vendor.dunning_grace_days = [2], 0
    vendor.save(update_fields=["dunning_retry_days", "dunning_grace_days"])
    live(buyer, *days(began, 1, 1.1))
    assert attempts(at_stripe) == 1
    live(buyer, *days(began, 2, 2.2))
    assert attempts(at_stripe) == 2
    assert state(buyer, began + 2.2 * DAY) == State.RESTRICTED


def test_whoever_looks_again_after_a_week_charges_once_and_gives_a_last_notice_first(at_stripe):
    buyer, began = scene()
    live(buyer, *days(began, 20, 20.01))
    assert attempts(at_stripe) == 2
    assert state(buyer, began + 20.5 * DAY) == State.PAST_DUE
    assert DunningStep.objects.filter(kind="last_notice").count() == 1
    live(buyer, *days(began, 21.1))
    assert state(buyer, began + 21.1 * DAY) == State.RESTRICTED


def test_a_charge_whose_answer_is_lost_is_one_charge(at_stripe):
    buyer, began = scene()
    at_stripe.fault(kind="reset_after_commit", path=PAY, times=3)
    live(buyer, began + DAY)
    outbox.send_due(at=began + DAY + timedelta(minutes=1))
    charges = at_stripe.api().v1.charges.list({}).data
    assert [charge.status for charge in charges] == ["failed", "failed"]
    assert InvoicePaymentFailure.objects.count() == 2


def test_stripe_charges_nothing_by_itself(at_stripe):
    scene()
    at_stripe.advance(20 * 24 * 3_600)
    charges = at_stripe.api().v1.charges.list({}).data
    assert [charge.status for charge in charges] == ["failed"]
