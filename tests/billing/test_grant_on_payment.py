"""Plans that grant the allotment when its invoice is paid, and not before."""

from decimal import Decimal
from typing import Any

import pytest

from billing import alerts, allotments, closing, invoicing, previews, standing, subscriptions
from billing.invariants import violations
from billing.models import Alert, Invoice, PaidAllotment, Period
from ledger import queries
from tests import builders
from tests.builders import DAY, DECEMBER, NOVEMBER, OCTOBER, TOKEN

pytestmark = pytest.mark.django_db


def scene(**changed: Any):
    shop = builders.shop()
    customer = builders.customer(shop)
    version = builders.plan_version(shop, grant_on_payment=True, **changed)
    return customer, builders.subscription(customer, version)


def pay(invoice: Invoice, *, at) -> None:
    total = sum((line.amount for line in invoice.lines.all()), start=builders.PACK_PRICE * 0)
    invoicing.record_finalization(
        invoice=invoice,
        stripe_invoice_id=f"in_{invoice.pk}",
        number="1",
        hosted_url="",
        subtotal=total,
        total=total,
        finalized_at=at,
        due_at=None,
    )
    for _ in range(2):
        invoicing.record_payment(invoice=invoice, amount=total, paid_at=at)


def prepaid(customer):
    lots = queries.lots(account_ids=[customer.account_id])
    return [lot for lot in lots if lot.kind == "prepaid"]


def test_the_tokens_come_with_the_money_once() -> None:
    customer, subscription = scene()
    assert prepaid(customer) == []
    pay(Invoice.objects.get(), at=OCTOBER + DAY)
    [lot] = prepaid(customer)
    assert (lot.granted_microtokens, lot.price_micros) == (1_000 * TOKEN, 1_000_000_000)
    assert (lot.effective_at, lot.expires_at) == (OCTOBER + DAY, NOVEMBER)
    assert PaidAllotment.objects.get().lot_id == lot.id
    period = builders.period(subscription)
    assert allotments.lot_of(period) == lot.id
    assert standing.of_customer(customer=customer, at=OCTOBER + DAY).granted_microtokens == (
        1_000 * TOKEN
    )
    builders.use(customer, 700, occurred_at=OCTOBER + 2 * DAY)
    alerts.evaluate(at=OCTOBER + 2 * DAY)
    assert Alert.objects.get().threshold == 70
    assert violations() == {}


def test_each_period_is_invoiced_as_it_begins_and_not_by_the_closing_of_the_one_before() -> None:
    customer, subscription = scene()
    subscriptions.renew(subscription_id=subscription.pk, at=NOVEMBER)
    second = Invoice.objects.get(period__number=2)
    assert second.occasion == "opening"
    assert [line.kind for line in second.lines.all()] == ["platform_fee", "allotment"]
    shown = previews.next_invoice(customer=customer, at=NOVEMBER)
    assert shown is not None
    assert shown.lines == ()
    closing.close_due(at=NOVEMBER + DAY)
    assert Invoice.objects.count() == 2
    for invoice in Invoice.objects.all():
        pay(invoice, at=NOVEMBER + DAY)
    first, second_lot = sorted(prepaid(customer), key=lambda lot: lot.id)
    # October's came when October was over: it lives for a month from then on.
    assert (first.effective_at, first.expires_at) == (NOVEMBER + DAY, DECEMBER + DAY)
    assert (second_lot.effective_at, second_lot.expires_at) == (NOVEMBER + DAY, DECEMBER)
    assert PaidAllotment.objects.count() == 2
    assert violations() == {}


def test_runs_before_the_payment_are_a_debt_that_the_tokens_repay() -> None:
    customer, _ = scene()
    builders.use(customer, 30, occurred_at=OCTOBER)
    pay(Invoice.objects.get(), at=OCTOBER + DAY)
    [lot] = prepaid(customer)
    assert lot.remaining_microtokens == 970 * TOKEN
    assert violations() == {}


def test_an_allotment_too_small_to_be_charged_comes_with_the_invoice_that_carries_it() -> None:
    _, subscription = scene(
        platform_fee=Decimal(0), allotment_price=Decimal("0.30"), allotment_microtokens=TOKEN
    )
    assert Invoice.objects.get().carried is not None
    subscriptions.renew(subscription_id=subscription.pk, at=NOVEMBER)
    pay(Invoice.objects.get(period__number=2), at=NOVEMBER + DAY)
    assert set(PaidAllotment.objects.values_list("period__number", flat=True)) == {1, 2}
    assert violations() == {}


def test_tokens_that_cost_nothing_wait_for_nobody() -> None:
    customer, _ = scene(allotment_price=Decimal(0))
    assert len(prepaid(customer)) == 1
    assert Period.objects.get().allotment_lot_id is not None
