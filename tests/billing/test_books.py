"""The books: what each fact is booked as, and that nothing drifts."""

import uuid
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from djmoney.money import Money

from billing import cancelling, changes, closing, crediting, money, subscriptions
from billing import reversals as taken_back
from billing.books import chart, days, fees, invoices, lines
from billing.books.lines import Posting
from billing.models import (
    Credit,
    Dispute,
    DisputeStatus,
    InvoiceLine,
    JournalDay,
    JournalLine,
    Refund,
    RefundAtStripe,
    RefundFailure,
    RefundSuccess,
    TopUp,
    TopUpFulfilment,
    TopUpPayment,
)
from ledger import accounts, corrections, grants, reversals
from tests import builders
from tests.billing.bookkeeping import EURO, MID, SECOND, booked, close, exact, issue, pay, scene
from tests.builders import DAY, NOVEMBER, OCTOBER, TOKEN

pytestmark = pytest.mark.django_db


def test_a_month_from_its_grant_to_its_payment():
    customer = scene(**builders.billed())
    invoice = issue(customer.invoices.get(), at=OCTOBER + SECOND, tax=Decimal(300))
    close(customer, OCTOBER)
    assert exact(customer) == {
        chart.RECEIVABLE: 1_800 * EURO,
        chart.TAX: -300 * EURO,
        chart.DEFERRED_TOKENS: -1_000 * EURO,
        chart.DEFERRED_FEES: -(500 * EURO - 500 * EURO // 31),
        chart.REVENUE_FEES: -(500 * EURO // 31),
    }
    pay(invoice, at=OCTOBER + 2 * DAY)
    builders.use(customer, 1_300, occurred_at=MID)
    close(customer, MID)
    assert exact(customer) == {
        chart.CASH: 1_800 * EURO,
        chart.TAX: -300 * EURO,
        chart.REVENUE_TOKENS: -1_000 * EURO,
        chart.DEFERRED_FEES: -(500 * EURO - 500 * EURO * 11 // 31),
        chart.REVENUE_FEES: -(500 * EURO * 11 // 31),
        chart.UNBILLED_OVERAGE: EURO,
        chart.REVENUE_OVERAGE: -EURO,
    }
    closing.close_due(at=NOVEMBER + DAY)
    issue(customer.invoices.get(occasion="closing"), at=NOVEMBER + DAY + SECOND)
    close(customer, NOVEMBER + DAY)
    assert exact(customer) == {
        chart.CASH: 1_800 * EURO,
        chart.RECEIVABLE: 1_501 * EURO,
        chart.TAX: -300 * EURO,
        chart.DEFERRED_TOKENS: -1_000 * EURO,
        chart.DEFERRED_FEES: -(500 * EURO - 500 * EURO * 2 // 30),
        chart.REVENUE_TOKENS: -1_000 * EURO,
        chart.REVENUE_OVERAGE: -EURO,
        chart.REVENUE_FEES: -(500 * EURO + 500 * EURO * 2 // 30),
    }
    assert set(booked(customer)) <= {*exact(customer), chart.ROUNDING}


def test_the_pool_of_the_worked_example_earns_7000_and_breaks_1000():
    customer = scene(
        platform_fee=Decimal(0),
        allotment_microtokens=1_000_000 * TOKEN,
        allotment_price=Decimal(10_000),
    )
    subscriptions.cancel(subscription_id=customer.subscriptions.get().pk, at=OCTOBER + DAY)
    builders.use(customer, 700_000, occurred_at=MID)
    closing.close_due(at=NOVEMBER + DAY)
    days.close_due(at=NOVEMBER + 2 * DAY)
    assert exact(customer, chart.REVENUE_TOKENS, chart.BREAKAGE, chart.DEFERRED_TOKENS) == {
        chart.REVENUE_TOKENS: -7_000 * EURO,
        chart.BREAKAGE: -1_000 * EURO,
        chart.DEFERRED_TOKENS: -2_000 * EURO,
    }


def test_tokens_granted_free_defer_nothing_and_earn_nothing():
    customer = scene(platform_fee=Decimal(0), allotment_price=Decimal(0))
    builders.use(customer, 100, occurred_at=MID)
    close(customer, MID)
    assert exact(customer) == {}
    assert JournalDay.objects.count() == 11


def test_of_late_overage_paid_by_a_true_up_the_commitment_earns_less():
    customer = scene(**builders.billed(commitment=Decimal(1_600)))
    builders.use(customer, 1_300, occurred_at=MID)
    closing.close_due(at=NOVEMBER + DAY)
    builders.use(customer, 1_000, occurred_at=MID, at=NOVEMBER + 2 * DAY)
    closing.close_due(at=NOVEMBER + 32 * DAY)
    for invoice in customer.invoices.order_by("built_at"):
        issue(invoice, at=invoice.built_at)
    days.close_due(at=NOVEMBER + 40 * DAY)
    # 1,300 tokens of overage, 250 of them free: 21 euros; of the true-up's 99, 20 have paid them.
    assert exact(customer, chart.UNBILLED_OVERAGE, chart.REVENUE_OVERAGE) == {
        chart.REVENUE_OVERAGE: -21 * EURO
    }
    trued_up = sum(
        money.to_micros(line.amount) for line in InvoiceLine.objects.filter(kind="true_up")
    )
    assert exact(customer, chart.REVENUE_COMMITMENTS) == {
        chart.REVENUE_COMMITMENTS: -(trued_up - 20 * EURO)
    }


def test_what_is_carried_over_is_receivable_when_a_later_invoice_takes_it_in():
    free = {"platform_fee": Decimal(0), "allotment_microtokens": 0, "allotment_price": Decimal(0)}
    customer = scene(**builders.billed(**free))
    builders.use(customer, 252, occurred_at=MID)
    closing.close_due(at=NOVEMBER + DAY)
    close(customer, NOVEMBER + DAY, at=NOVEMBER + 3 * DAY)
    owed = 40_000
    assert exact(customer) == {chart.CARRIED: owed, chart.REVENUE_OVERAGE: -owed}
    builders.use(customer, 300, occurred_at=NOVEMBER + 5 * DAY)
    closing.close_due(at=NOVEMBER + 32 * DAY)
    issue(customer.invoices.latest("built_at"), at=NOVEMBER + 32 * DAY)
    close(customer, NOVEMBER + 32 * DAY, at=NOVEMBER + 40 * DAY)
    assert exact(customer) == {
        chart.RECEIVABLE: EURO + owed,
        chart.REVENUE_OVERAGE: -EURO - owed,
    }


def test_a_credit_is_owed_until_an_invoice_uses_it_up():
    free = {"allotment_microtokens": 0, "allotment_price": Decimal(0)}
    customer = scene(platform_fee=Decimal(500), **free)
    crediting.record(
        customer=customer,
        amount=Money(620, "EUR"),
        reason="goodwill",
        description="An apology",
        idempotency_key="sorry",
        at=MID,
    )
    close(customer, MID, at=NOVEMBER)
    given = {chart.CREDITS: -620 * EURO, chart.CREDITED: 620 * EURO}
    assert exact(customer, chart.CREDITS, chart.CREDITED, chart.RECEIVABLE) == given
    closing.close_due(at=NOVEMBER + DAY)
    issue(customer.invoices.latest("built_at"), at=NOVEMBER + DAY)
    close(customer, NOVEMBER + DAY, at=NOVEMBER + 5 * DAY)
    assert exact(customer, chart.CREDITS, chart.CREDITED, chart.RECEIVABLE) == given | {
        chart.CREDITS: -120 * EURO
    }
    assert exact(customer, chart.UNBILLED_FEES) == {chart.UNBILLED_FEES: 500 * EURO}


@pytest.mark.parametrize(("fee", "unbilled"), [(Decimal(800), True), (Decimal(300), False)])
def test_a_change_of_plan_earns_its_difference_by_the_days_that_are_left(fee, unbilled):
    shop = builders.shop()
    customer = builders.customer(shop)
    first, second = (
        builders.plan_version(
            shop, platform_fee=one, allotment_microtokens=0, allotment_price=Decimal(0)
        )
        for one in (Decimal(500), fee)
    )
    subscription = builders.subscription(customer, first)
    changed_at = OCTOBER + 10 * DAY + timedelta(hours=7, minutes=13)
    change = changes.change_now(
        subscription_id=subscription.pk,
        wanted=changes.Wanted(plan_version_id=second.pk),
        idempotency_key=uuid.uuid4(),
        at=changed_at,
    )
    for invoice in customer.invoices.all():
        issue(invoice, at=invoice.built_at)
    close(customer, OCTOBER + 14 * DAY, at=NOVEMBER)
    earned = 500 * EURO * 15 // 31 + change.fee_micros * 5 // 21
    found = exact(customer)
    assert found[chart.REVENUE_FEES] == -earned
    assert found[chart.DEFERRED_FEES] == -(500 * EURO + change.fee_micros - earned)
    assert chart.UNBILLED_FEES not in found
    assert (chart.CREDITS in found) is not unbilled
    assert abs(found.get(chart.ROUNDING, 0)) < 10_000


def bought(customer, *, at, tax=Decimal(120)):
    """A pack of 500 tokens for EUR 600, paid with tax and granted."""
    pack = builders.pack(builders.shop())
    top_up = TopUp.objects.create(
        id=uuid.uuid4(),
        customer=customer,
        pack=pack,
        microtokens=pack.microtokens,
        price=Money(600, "EUR"),
        validity_months=12,
        begun_at=at,
    )
    TopUpPayment.objects.create(
        top_up=top_up,
        stripe_payment_intent_id=f"pi_{builders.number()}",
        amount=Money(600 + tax, "EUR"),
        paid_at=at,
    )
    granted = grants.grant(
        account_id=customer.account_id,
        microtokens=pack.microtokens,
        source="top_up",
        price_micros=600 * EURO,
        currency="EUR",
        priority=50,
        effective_at=at,
        expires_at=at + 365 * DAY,
        idempotency_key=f"top_up:{top_up.pk}",
        at=at,
    )
    TopUpFulfilment.objects.create(top_up=top_up, lot_id=granted.lot_id, fulfilled_at=at)
    return top_up


def lot_of(top_up):
    return TopUpFulfilment.objects.get(top_up=top_up).lot_id


def test_a_top_up_is_cash_and_tax_and_its_tokens_are_deferred_until_used_or_taken_back():
    customer = builders.customer(builders.shop())
    lot_id = lot_of(bought(customer, at=OCTOBER))
    close(customer, OCTOBER)
    paid = {chart.CASH: 720 * EURO, chart.TAX: -120 * EURO}
    assert exact(customer) == paid | {chart.DEFERRED_TOKENS: -600 * EURO}
    builders.use(customer, 100, occurred_at=OCTOBER + DAY)
    reversals.reverse(
        lot_id=lot_id,
        revoked_microtokens=100 * TOKEN,
        frozen_microtokens=200 * TOKEN,
        idempotency_key="refund",
        at=OCTOBER + DAY,
    )
    close(customer, OCTOBER + DAY)
    assert exact(customer) == paid | {
        chart.REVENUE_TOKENS: -120 * EURO,
        chart.REFUNDS: -120 * EURO,
        chart.DEFERRED_TOKENS: -360 * EURO,
    }


def test_a_refund_gives_back_money_tax_and_the_value_of_tokens_unless_it_fails():
    customer = builders.customer(builders.shop())
    top_up = bought(customer, at=OCTOBER)
    refund = Refund.objects.create(top_up=top_up, amount=Money(360, "EUR"), asked_at=OCTOBER)
    RefundAtStripe.objects.create(refund=refund, stripe_refund_id="re_1", known_at=OCTOBER)
    RefundSuccess.objects.create(refund=refund, succeeded_at=OCTOBER + DAY)
    taken_back.settle(top_up_id=top_up.pk, at=OCTOBER + DAY)
    close(customer, OCTOBER + DAY)
    assert exact(customer) == {
        chart.CASH: 360 * EURO,
        chart.TAX: -60 * EURO,
        chart.DEFERRED_TOKENS: -300 * EURO,
    }
    RefundFailure.objects.create(refund=refund, kind="failed", failed_at=OCTOBER + 5 * DAY)
    taken_back.settle(top_up_id=top_up.pk, at=OCTOBER + 5 * DAY)
    close(customer, OCTOBER + 5 * DAY)
    assert exact(customer) == {
        chart.CASH: 720 * EURO,
        chart.TAX: -120 * EURO,
        chart.DEFERRED_TOKENS: -600 * EURO,
    }


@pytest.mark.parametrize("outcome", ["won", "lost"])
def test_a_dispute_takes_the_money_until_it_is_decided(outcome):
    customer = builders.customer(builders.shop())
    top_up = bought(customer, at=OCTOBER)
    dispute = Dispute.objects.create(
        stripe_dispute_id="dp_1",
        top_up=top_up,
        amount=Money(720, "EUR"),
        reason="fraudulent",
        opened_at=OCTOBER,
    )
    expected = {
        "warning_needs_response": (0, 720),
        "needs_response": (720, 0),
        "won": (0, 720),
        "lost": (0, 0),
    }
    found: dict[str, int] = {}
    for number, status in enumerate(("warning_needs_response", "needs_response", outcome)):
        at = OCTOBER + number * DAY
        DisputeStatus.objects.create(dispute=dispute, status=status, noted_at=at)
        taken_back.settle(top_up_id=top_up.pk, at=at)
        close(customer, at)
        found = exact(customer)
        disputed, cash = (found.get(one, 0) for one in (chart.DISPUTED, chart.CASH))
        assert (disputed, cash) == tuple(EURO * one for one in expected[status])
    kept = {chart.CASH: 720 * EURO, chart.TAX: -120 * EURO, chart.DEFERRED_TOKENS: -600 * EURO}
    assert found == (kept if outcome == "won" else {})


def test_a_subscription_cancelled_at_once_earns_what_is_not_given_back():
    customer = scene()
    issue(customer.invoices.get(), at=OCTOBER)
    builders.use(customer, 400, occurred_at=OCTOBER + 2 * DAY)
    close(customer, OCTOBER + 2 * DAY)
    at = OCTOBER + 15 * DAY + timedelta(hours=12)
    cancelling.cancel_now(subscription_id=customer.subscriptions.get().pk, at=at)
    fees, allotment = (money.to_micros(one.amount) for one in Credit.objects.order_by("id"))
    assert (fees, allotment) == (250 * EURO, 500 * EURO)
    close(customer, at.date(), at=NOVEMBER)
    expected = {
        chart.RECEIVABLE: 1_500 * EURO,
        chart.REVENUE_FEES: -250 * EURO,
        chart.REVENUE_TOKENS: -400 * EURO,
        chart.DEFERRED_TOKENS: -100 * EURO,
        chart.CREDITS: -750 * EURO,
    }
    assert exact(customer) == expected
    close(customer, OCTOBER + 20 * DAY, at=NOVEMBER)
    assert exact(customer) == expected


def test_what_is_given_back_is_deferred_again():
    customer = scene()
    builders.accept(customer, builders.new_run(customer, 400, occurred_at=MID, run_id="r"), at=MID)
    builders.use(customer, 100, occurred_at=MID)
    close(customer, MID)
    account = accounts.find(book_id=customer.vendor.book_id, code=customer.code)
    corrections.void(account=account, run_id="r", reason="ours", idempotency_key="k", at=MID + DAY)
    close(customer, MID + DAY)
    assert exact(customer, chart.REVENUE_TOKENS, chart.DEFERRED_TOKENS) == {
        chart.REVENUE_TOKENS: -100 * EURO,
        chart.DEFERRED_TOKENS: -900 * EURO,
    }


@pytest.mark.parametrize(
    ("starts_on", "ends_on", "day", "expected"),
    [
        (date(2026, 10, 1), date(2026, 11, 1), date(2026, 9, 30), (0, 31)),
        (date(2026, 10, 1), date(2026, 11, 1), date(2026, 10, 1), (1, 31)),
        (date(2026, 10, 1), date(2026, 11, 1), date(2026, 10, 31), (31, 31)),
        (date(2026, 10, 1), date(2026, 11, 1), date(2027, 1, 1), (31, 31)),
        (date(2026, 3, 15), date(2026, 4, 15), date(2026, 3, 29), (15, 31)),
        (date(2026, 1, 31), date(2026, 2, 28), date(2026, 2, 27), (28, 28)),
        (date(2026, 1, 1), date(2026, 1, 1), date(2026, 1, 1), (1, 1)),
    ],
)
def test_a_day_of_a_period_is_a_day(starts_on, ends_on, day, expected):
    assert fees.days_earned(starts_on=starts_on, ends_on=ends_on, day=day) == expected


@pytest.mark.parametrize(
    ("time_zone", "starts_at"),
    [
        ("Europe/Paris", datetime(2026, 9, 30, 22, tzinfo=UTC)),
        ("Asia/Tokyo", datetime(2026, 9, 30, 15, tzinfo=UTC)),
        ("America/New_York", datetime(2026, 10, 1, 4, tzinfo=UTC)),
    ],
)
def test_a_fee_is_earned_by_the_days_of_the_customers_own_calendar(time_zone, starts_at):
    customer = scene(
        time_zone=time_zone,
        starts_at=starts_at,
        allotment_microtokens=0,
        allotment_price=Decimal(0),
    )
    subscriptions.cancel(
        subscription_id=customer.subscriptions.get().pk, at=starts_at + timedelta(hours=1)
    )
    days.close_due(at=NOVEMBER + 3 * DAY)
    earned = JournalLine.objects.filter(rule="fee_earned", account=chart.DEFERRED_FEES)
    by_day = dict(earned.values_list("day__day", "micros"))
    assert (min(by_day), max(by_day), len(by_day)) == (date(2026, 10, 1), date(2026, 10, 31), 31)
    assert sum(by_day.values()) == 500 * EURO
    assert max(by_day.values()) - min(by_day.values()) <= 1


def posting(micros, *, debit=chart.DEFERRED_TOKENS, credit=chart.REVENUE_TOKENS, currency="EUR"):
    return Posting(
        rule="used",
        subject=f"lot:{builders.number()}",
        customer_id=1,
        currency=currency,
        debit=debit,
        credit=credit,
        micros=micros,
        micros_to_date=micros,
        happened_on=date(2026, 10, 1),
    )


@pytest.mark.parametrize(("currency", "cent"), [("EUR", 10_000), ("JPY", EURO), ("KWD", 10_000)])
def test_booked_balances_never_drift_from_the_exact_ones(currency, cent):
    unbooked: dict[lines.Series, int] = {}
    exactly: dict[str, int] = defaultdict(int)
    as_booked: dict[str, int] = defaultdict(int)
    for number in range(1, 400):
        both = [
            posting(number * cent // 7, currency=currency),
            posting(number * cent // 11, credit=chart.BREAKAGE, currency=currency),
        ]
        written = list(lines.lines(postings=both, unbooked=unbooked))
        assert sum(line.amount_micros for line in written) == 0
        assert sum(line.micros for line in written) == 0
        for line in written:
            assert line.amount_micros % cent == 0
            exactly[line.account] += line.micros
            as_booked[line.account] += line.amount_micros
            if line.account != chart.ROUNDING:
                unbooked[line.customer_id, line.currency, line.account] = line.unbooked_micros
        for account in exactly:
            assert abs(exactly[account] - as_booked[account]) <= cent * (
                1.5 if account == chart.ROUNDING else 0.5
            )


def test_every_kind_of_invoice_line_is_taken_from_an_account():
    assert set(invoices.ACCOUNT_OF_LINE) == set(InvoiceLine.Kind)
    assert set(invoices.ACCOUNT_OF_LINE.values()) <= set(chart.ACCOUNTS)
