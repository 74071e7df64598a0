"""Overage by each model, from the run to the invoice; and what changes afterwards."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from djmoney.money import Money

from billing import closing, crediting, previews, subscriptions
from billing.books import chart, days
from billing.models import Invoice, InvoiceLine, OverageStep, Period, PeriodClosing
from ledger import accounts, corrections, debiting, queries, receipts
from ledger.catalog import NewRate
from ledger.value import Tier, tiered_micros
from tests import builders
from tests.billing import bookkeeping
from tests.builders import DAY, NOVEMBER, OCTOBER, TOKEN

pytestmark = pytest.mark.django_db

MID = OCTOBER + 15 * DAY
CLOSING = NOVEMBER + DAY
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)
CENT = 10_000
# Whoever asks for a billionth of a token has its cost counted in microtokens.
A_MICROTOKEN = [NewRate(meter="executions", microtokens=1)]
STEPS = (
    Tier(up_to_microtokens=100 * TOKEN, micros_per_token=10 * CENT),
    Tier(up_to_microtokens=None, micros_per_token=5 * CENT),
)
NOTHING = {"platform_fee": Decimal(0), "allotment_microtokens": 0, "allotment_price": Decimal(0)}
GRADUATED = builders.billed(overage_tiers=STEPS)
VOLUME = builders.billed(overage_tiers=STEPS, overage_model="volume")
PACKAGE = {
    "overage_policy": "bill",
    "overage_model": "package",
    "overage_package_microtokens": 100 * TOKEN,
    "package_price": Decimal(7),
}


def scene(*, rates=(), **changed):
    shop = builders.shop(rates=rates)
    customer = builders.customer(shop)
    builders.subscription(customer, builders.plan_version(shop, **changed))
    return customer


def receipt(customer, run_id):
    account = accounts.account(account_id=customer.account_id)
    return receipts.receipt(account=account, run_id=run_id)


def run(customer, cost, run_id, *, at=MID):
    builders.accept(
        customer, builders.new_run(customer, cost, occurred_at=MID, run_id=run_id), at=at
    )
    debiting.drain_all(account_ids=[customer.account_id], at=at)


def give_back(customer, run_id, tokens, *, at):
    corrections.void(
        account=accounts.account(account_id=customer.account_id),
        run_id=run_id,
        microtokens=tokens * TOKEN,
        reason="",
        idempotency_key=f"void-{builders.number()}",
        at=at,
    )


def lines(number=1, *kinds):
    invoice = Invoice.objects.get(occasion="closing", period__number=number)
    return [
        (line.description.rpartition(": ")[2], str(line.amount.amount.normalize() + 0))
        for line in invoice.lines.filter(kind__in=kinds or ["overage", "late_overage"])
    ]


def close(at=CLOSING):
    closing.close_due(at=at)


@pytest.mark.parametrize(
    ("terms", "used", "micros"),
    [
        (GRADUATED, 100 * TOKEN - 1, 1_000 * CENT - 1),
        (GRADUATED, 100 * TOKEN, 1_000 * CENT),
        (GRADUATED, 100 * TOKEN + 1, 1_000 * CENT),
        (GRADUATED, 99 * TOKEN, 990 * CENT),
        (GRADUATED, 101 * TOKEN, 1_005 * CENT),
        (VOLUME, 100 * TOKEN - 1, 1_000 * CENT - 1),
        (VOLUME, 100 * TOKEN, 1_000 * CENT),
        (VOLUME, 100 * TOKEN + 1, 500 * CENT),
        (VOLUME, 99 * TOKEN, 990 * CENT),
        (VOLUME, 101 * TOKEN, 505 * CENT),
        (PACKAGE, 100 * TOKEN - 1, 700 * CENT),
        (PACKAGE, 100 * TOKEN, 700 * CENT),
        (PACKAGE, 100 * TOKEN + 1, 1_400 * CENT),
        (PACKAGE, 99 * TOKEN, 700 * CENT),
        (PACKAGE, 101 * TOKEN, 1_400 * CENT),
        (PACKAGE, 1, 700 * CENT),
    ],
)
def test_at_each_bound_receipts_preview_closing_and_invoice_agree(terms, used, micros):
    customer = scene(rates=A_MICROTOKEN, **NOTHING, **terms)
    # Two runs: the second crosses the bound, or stops at it.
    run(customer, max(1, used - 2), "first")
    run(customer, used - max(1, used - 2), "second")
    shown = previews.next_invoice(customer=customer, at=MID)
    assert shown is not None
    close()
    on_receipts = sum(
        receipt(customer, run_id).micros_by_currency.get("EUR", 0) for run_id in ("first", "second")
    )
    closed = PeriodClosing.objects.get()
    billed = InvoiceLine.objects.filter(kind="overage")
    assert on_receipts == closed.overage_micros == sum(line.micros for line in billed) == micros
    assert sum(line.microtokens or 0 for line in billed) == closed.overage_microtokens == used
    assert [line.micros for line in shown.lines] == [line.micros for line in billed]


@pytest.mark.parametrize(
    ("terms", "used", "said"),
    [
        (GRADUATED, 1_101, [("100 tokens at €0.10", "10"), ("1 token at €0.05", "0.05")]),
        (VOLUME, 1_101, [("101 tokens, all at €0.05", "5.05")]),
        (PACKAGE, 1_101, [("2 packages of 100 tokens at €7.00 each", "14")]),
        (GRADUATED, 1_000, []),
        (VOLUME, 1_000, []),
        (PACKAGE, 1_000, []),
    ],
)
def test_overage_counts_from_nothing_where_the_allotment_ends(terms, used, said):
    """And a term without any has the flat fee, but no line of overage."""
    customer = scene(**terms)
    builders.use(customer, used, occurred_at=MID)
    close()
    assert lines() == said
    assert InvoiceLine.objects.filter(kind="platform_fee", period__number=2).exists()


def test_what_comes_late_by_volume_is_the_difference_to_what_was_invoiced():
    customer = scene(**NOTHING, **VOLUME)
    run(customer, 150, "a")
    close()
    run(customer, 40, "b", at=CLOSING)
    close(DECEMBER + DAY)
    assert lines(2) == [
        ("all 190 tokens at €0.05 come to €9.50, of which €7.50 stand on invoices", "2")
    ]


def test_late_overage_with_which_the_price_falls_is_a_credit_on_the_next_invoice():
    customer = scene(**{**VOLUME, "platform_fee": Decimal(500)})
    run(customer, 1_100, "a")
    close()
    assert lines() == [("100 tokens, all at €0.10", "10")]
    run(customer, 1, "b", at=CLOSING)
    shown = previews.next_invoice(customer=customer, at=CLOSING)
    assert shown is not None
    close(DECEMBER + DAY)
    assert lines(2) == []
    [credit] = customer.credits.all()
    assert credit.amount == Money("4.95", "EUR")
    assert credit.description == (
        "Overage, 1 October 2026 to 1 November 2026: 101 tokens used by now come to less than was"
        " invoiced"
    )
    fee = InvoiceLine.objects.get(kind="platform_fee", period__number=3)
    assert fee.amount == Money("495.05", "EUR")
    assert "€4.95 of it paid by credit" in fee.description
    invoice = fee.invoice
    assert [line.amount for line in shown.lines] == [line.amount for line in invoice.lines.all()]
    assert crediting.left(customer=customer) == Money(0, "EUR")


def test_what_is_given_back_and_makes_the_rest_dearer_is_a_line_of_fewer_tokens():
    customer = scene(**NOTHING, **VOLUME)
    run(customer, 101, "a")
    close()
    give_back(customer, "a", 1, at=CLOSING)
    close(DECEMBER + DAY)
    [line] = InvoiceLine.objects.filter(kind="late_overage")
    assert (line.microtokens, line.amount) == (-TOKEN, Money("4.95", "EUR"))
    assert line.description == (
        "Overage that came in late, 1 October 2026 to 1 November 2026: 1 token less: all 100 tokens"
        " at €0.10 come to €10.00, of which €5.05 stand on invoices"
    )


def test_a_late_run_in_a_package_that_was_paid_is_a_line_of_nothing_and_the_next_costs():
    customer = scene(**{**PACKAGE, **NOTHING, "platform_fee": Decimal(500)})
    run(customer, 60, "a")
    close()
    run(customer, 40, "b", at=CLOSING)
    close(DECEMBER + DAY)
    run(customer, 1, "c", at=DECEMBER + DAY)
    close(datetime(2027, 1, 2, tzinfo=UTC))
    assert lines(2) == [
        ("40 tokens more, in a package of 100 tokens that stands on an invoice", "0")
    ]
    assert lines(3) == [("1 more package of 100 tokens at €7.00 each", "7")]


def test_steps_up_and_down_add_up_to_what_overage_comes_to_by_now():
    customer = scene(**{**VOLUME, "platform_fee": Decimal(500)})
    run(customer, 1_090, "a")
    at = CLOSING
    for change in (20, -15, -60, 30, 100, -150, 5):
        close(at)
        if change > 0:
            run(customer, change, f"run-{at}", at=at)
        else:
            give_back(customer, "a", -change, at=at)
        at += 31 * DAY
    close(at)
    period = Period.objects.get(number=1)
    [lot] = [
        lot
        for lot in queries.lots(account_ids=[customer.account_id])
        if lot.id == period.overage_lot_id
    ]
    assert lot.tiers is not None
    worth = tiered_micros(tiers=lot.tiers, out_microtokens=lot.out_microtokens)
    steps = OverageStep.objects.filter(period=period)
    assert sum(step.micros for step in steps) == worth
    invoiced = InvoiceLine.objects.filter(period=period, kind__in=["overage", "late_overage"])
    credited = sum(credit.amount.amount for credit in customer.credits.all())
    assert sum(line.micros for line in invoiced) - credited * 1_000_000 == worth
    assert any(step.micros < 0 for step in steps)
    assert crediting.left(customer=customer).amount == 0
    for invoice in customer.invoices.order_by("built_at"):
        bookkeeping.issue(invoice, at=invoice.built_at)
    days.close_due(at=at + 2 * DAY)
    assert bookkeeping.exact(customer, chart.UNBILLED_OVERAGE, chart.REVENUE_OVERAGE) == {
        chart.REVENUE_OVERAGE: -worth
    }


COMMITTED = {
    "platform_fee": Decimal(100),
    "allotment_microtokens": 0,
    "allotment_price": Decimal(0),
    "commitment": Decimal(105),
}


def test_what_the_commitment_asks_for_all_the_same_is_kept_and_pays_for_late_overage():
    customer = scene(**{**GRADUATED, **COMMITTED})
    run(customer, 90, "a")  # 9 of overage: 4 beyond the commitment
    close()
    give_back(customer, "a", 70, at=CLOSING)  # 2 of overage are left
    close(DECEMBER + DAY)
    [credit] = customer.credits.all()
    assert credit.amount == Money(4, "EUR")
    assert OverageStep.objects.get(number=2).kept_micros == 3_000_000
    run(customer, 40, "b", at=DECEMBER + DAY)  # 6 of overage: 1 beyond
    close(datetime(2027, 1, 2, tzinfo=UTC))
    [line] = InvoiceLine.objects.filter(kind="late_overage")
    assert (line.micros, line.covered_micros) == (1_000_000, 3_000_000)
    for invoice in customer.invoices.order_by("built_at"):
        bookkeeping.issue(invoice, at=invoice.built_at)
    days.close_due(at=datetime(2027, 1, 3, tzinfo=UTC))
    # October's is 6; what was kept has paid 3 of it; November and December lack 5 each.
    assert bookkeeping.exact(
        customer, chart.UNBILLED_OVERAGE, chart.REVENUE_OVERAGE, chart.REVENUE_COMMITMENTS
    ) == {chart.REVENUE_OVERAGE: -6_000_000, chart.REVENUE_COMMITMENTS: -10_000_000}


def test_a_true_up_leaves_nothing_to_be_credited():
    customer = scene(**{**GRADUATED, **COMMITTED})
    run(customer, 10, "a")
    close()
    assert InvoiceLine.objects.get(kind="true_up").amount == Money(4, "EUR")
    give_back(customer, "a", 10, at=CLOSING)
    close(DECEMBER + DAY)
    assert not customer.credits.exists()
    assert OverageStep.objects.get(number=2).kept_micros == 1_000_000


def test_a_credit_of_a_customer_who_left_waits_and_is_told_once():
    customer = scene(**NOTHING, **GRADUATED)
    run(customer, 90, "a")
    subscriptions.cancel(subscription_id=customer.subscriptions.get().pk, at=MID)
    close()
    give_back(customer, "a", 90, at=CLOSING)
    assert closing.bill_late(at=CLOSING + 2 * DAY) == 0
    assert closing.bill_late(at=CLOSING + 4 * DAY) == 0
    assert crediting.left(customer=customer) == Money(9, "EUR")
    assert OverageStep.objects.count() == 2
    # What comes even later is paid by it.
    run(customer, 100, "b", at=CLOSING + 4 * DAY)
    assert closing.bill_late(at=CLOSING + 5 * DAY) == 1
    assert InvoiceLine.objects.get(kind="late_overage").amount == Money(1, "EUR")
