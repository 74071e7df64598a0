"""Invoices too small to be charged: carried over to the next, to the cent, and never sent."""

from datetime import timedelta
from decimal import Decimal

import pytest
from djmoney.money import Money

from billing import closing, invoicing, money, subscriptions
from billing.invariants import violations
from billing.models import Invoice, InvoiceLine, StripeCall
from billing.portal import invoices
from ledger.value import Tier
from tests import builders
from tests.builders import DAY, NOVEMBER, OCTOBER

pytestmark = pytest.mark.django_db

MID = OCTOBER + 15 * DAY
A_CENT_A_TOKEN = (Tier(up_to_microtokens=None, micros_per_token=10_000),)


def scene(**changed):
    """A customer of a plan that costs nothing but a cent for each token."""
    shop = builders.shop()
    customer = builders.customer(shop)
    free = {"platform_fee": Decimal(0), "allotment_microtokens": 0, "allotment_price": Decimal(0)}
    terms = builders.billed(**{**free, "overage_tiers": A_CENT_A_TOKEN, **changed})
    builders.subscription(customer, builders.plan_version(shop, **terms))
    return customer


def close(month: int) -> None:
    """Close the period that ends after so many months."""
    closing.close_due(at=month_end(month) + DAY)


def month_end(month: int):
    return OCTOBER.replace(year=2026 + (9 + month) // 12, month=(9 + month) % 12 + 1)


def amounts(invoice: Invoice) -> list[tuple[str, str]]:
    return [(line.kind, str(line.amount.amount.normalize())) for line in invoice.lines.all()]


def sent() -> set[str]:
    calls = StripeCall.objects.filter(operation="invoice.create")
    return {str(one) for one in calls.values_list("aggregate_id", flat=True)}


@pytest.mark.parametrize(("tokens", "state"), [(49, "carried"), (50, "preparing")])
def test_less_than_stripe_charges_is_carried(tokens: int, state: str) -> None:
    customer = scene()
    builders.use(customer, tokens, occurred_at=MID)
    close(1)
    [invoice] = Invoice.objects.all()
    assert invoicing.state(invoice=invoice) == state
    assert sent() == ({str(invoice.pk)} if state == "preparing" else set())


def test_what_is_carried_stands_on_the_next_invoice_once() -> None:
    customer = scene()
    for month, tokens in enumerate((20, 10, 70, 60)):
        builders.use(customer, tokens, occurred_at=month_end(month) + 15 * DAY)
        close(month + 1)
    first, second, third, fourth = Invoice.objects.order_by("built_at")
    assert amounts(first) == [("overage", "0.2")]
    assert amounts(second) == [("carried", "0.2"), ("overage", "0.1")]
    assert amounts(third) == [("carried", "0.3"), ("overage", "0.7")]
    assert amounts(fourth) == [("overage", "0.6")]
    assert sent() == {str(third.pk), str(fourth.pk)}
    assert [invoicing.state(invoice=one) for one in (first, second)] == ["carried"] * 2
    assert violations() == {}


def test_a_fraction_is_carried_as_it_was_rounded() -> None:
    third_of_a_cent = (Tier(up_to_microtokens=None, micros_per_token=3_333),)
    customer = scene(overage_tiers=third_of_a_cent)
    builders.use(customer, 5, occurred_at=MID)  # 1.6665 cents
    close(1)
    builders.use(customer, 200, occurred_at=NOVEMBER + 15 * DAY)
    close(2)
    _, second = Invoice.objects.order_by("built_at")
    assert amounts(second) == [("carried", "0.02"), ("overage", "0.67")]


def test_nothing_to_pay_is_not_carried() -> None:
    free = (Tier(up_to_microtokens=None, micros_per_token=0),)
    customer = scene(overage_tiers=free)
    builders.use(customer, 5, occurred_at=MID)
    close(1)
    [invoice] = Invoice.objects.all()
    assert not hasattr(invoice, "carried")


def test_two_that_are_carried_by_late_runs_stand_on_one() -> None:
    customer = scene()
    builders.use(customer, 20, occurred_at=MID)
    close(1)
    builders.use(customer, 7, occurred_at=MID, at=month_end(1) + 3 * DAY)
    builders.use(customer, 30, occurred_at=NOVEMBER + 15 * DAY)
    close(2)
    _, second = Invoice.objects.order_by("built_at")
    assert amounts(second) == [("carried", "0.2"), ("late_overage", "0.07"), ("overage", "0.3")]
    assert sent() == {str(second.pk)}


def test_who_leaves_owes_what_was_too_small_until_there_is_more() -> None:
    customer = scene()
    builders.use(customer, 20, occurred_at=MID)
    subscriptions.cancel(subscription_id=customer.subscriptions.get().pk, at=MID + DAY)
    close(1)
    assert closing.bill_late(at=month_end(1) + 5 * DAY) == 0
    builders.use(customer, 40, occurred_at=MID, at=month_end(1) + 5 * DAY)
    assert closing.bill_late(at=month_end(1) + timedelta(days=6)) == 1
    _, late = Invoice.objects.order_by("built_at")
    assert amounts(late) == [("carried", "0.2"), ("late_overage", "0.4")]
    assert sent() == {str(late.pk)}


def test_the_portal_says_that_it_is_carried(client) -> None:
    customer = scene()
    builders.use(customer, 20, occurred_at=MID)
    close(1)
    [row] = invoices.latest(customer=customer, invoices_max=5)
    assert (row.state, row.number, row.total) == ("carried", "", Money("0.20", "EUR"))


def test_another_customers_is_never_carried() -> None:
    ours, theirs = scene(), scene()
    builders.use(ours, 20, occurred_at=MID)
    close(1)
    builders.use(theirs, 60, occurred_at=NOVEMBER + 15 * DAY)
    close(2)
    assert not InvoiceLine.objects.filter(invoice__customer=theirs, kind="carried").exists()


@pytest.mark.parametrize(
    ("currency", "least"), [("USD", "0.50"), ("jpy", "50"), ("HUF", "175"), ("KWD", "1")]
)
def test_what_is_charged_at_least_can_be_paid(currency: str, least: str) -> None:
    found = money.least_charged(currency)
    assert found == Money(least, currency.upper())
    assert money.from_minor_units(money.to_minor_units(found), currency) == found
