"""The closing of a period, with the specification's worked examples."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import transaction

from billing import closing, subscriptions
from billing.errors import PeriodNotOver
from billing.models import (
    Invoice,
    InvoiceLine,
    Period,
    PeriodClosing,
    PeriodSettlement,
    StripeCall,
)
from ledger import accounts, corrections, debiting, grants, queries
from ledger.catalog import NewRate
from ledger.value import Tier, prepaid_slice_micros
from tests import builders
from tests.builders import DAY, NOVEMBER, OCTOBER, TOKEN

pytestmark = pytest.mark.django_db

EURO = 1_000_000
CLOSING = NOVEMBER + DAY
MID = OCTOBER + 15 * DAY


def scene(*, starts_at=OCTOBER, **changed):
    shop = builders.shop()
    customer = builders.customer(shop)
    builders.subscription(customer, builders.plan_version(shop, **changed), starts_at=starts_at)
    return customer


def lots(customer, source=None):
    found = queries.lots(account_ids=[customer.account_id])
    return [lot for lot in found if source is None or lot.source == source]


def lines(occasion=Invoice.Occasion.CLOSING, number=1):
    invoice = Invoice.objects.get(occasion=occasion, period__number=number)
    return [(line.kind, str(line.amount.amount.normalize())) for line in invoice.lines.all()]


def test_an_annual_pool_rolls_over_expires_and_earns_as_in_the_worked_example():
    start, end = datetime(2025, 10, 1, tzinfo=UTC), OCTOBER
    customer = scene(
        starts_at=start,
        term_months=12,
        platform_fee=Decimal(0),
        allotment_microtokens=1_000_000 * TOKEN,
        allotment_price=Decimal(10_000),
    )
    builders.use(customer, 700_000, occurred_at=start + 100 * DAY)
    assert closing.close_due(at=end + DAY) == 1

    settlement = PeriodSettlement.objects.get()
    assert settlement.rolled_microtokens == 200_000 * TOKEN
    assert settlement.rolled_micros == 2_000 * EURO
    assert settlement.expired_microtokens == 100_000 * TOKEN
    assert settlement.expired_micros == 1_000 * EURO
    earned = prepaid_slice_micros(
        price_micros=10_000 * EURO,
        granted_microtokens=1_000_000 * TOKEN,
        out_before=0,
        out_after=700_000 * TOKEN,
    )
    assert earned == 7_000 * EURO
    assert earned + settlement.rolled_micros + settlement.expired_micros == 10_000 * EURO
    [rolled] = lots(customer, "rollover")
    assert rolled.id == settlement.rolled_lot_id
    assert (rolled.granted_microtokens, rolled.price_micros) == (200_000 * TOKEN, 2_000 * EURO)
    assert (rolled.effective_at, rolled.expires_at) == (end, datetime(2027, 10, 1, tzinfo=UTC))


def test_of_333_left_of_1000_200_roll_over_and_133_expire_as_two_entries():
    customer = scene()
    builders.use(customer, 667, occurred_at=MID)
    closing.close_due(at=CLOSING)
    [allotment, _] = lots(customer, "allotment")
    moved = {
        movement.kind: movement.microtokens // TOKEN
        for movement in queries.movements(lot_id=allotment.id)
    }
    assert moved == {"grant": 1_000, "roll_over": 200, "expire": 133}


def test_the_rollover_share_is_rounded_down_to_the_smallest_amount():
    shop = builders.shop(rates=[NewRate(meter="executions", microtokens=1)])
    version = builders.plan_version(shop, allotment_microtokens=7, allotment_price=Decimal(0))
    builders.subscription(builders.customer(shop), version)
    closing.close_due(at=CLOSING)
    settlement = PeriodSettlement.objects.get()
    assert (settlement.rolled_microtokens, settlement.expired_microtokens) == (1, 6)


def test_the_share_is_of_what_the_plan_granted_not_of_what_is_left_or_was_added():
    customer = scene()
    grants.grant(
        account_id=customer.account_id,
        microtokens=5_000 * TOKEN,
        source="top_up",
        price_micros=0,
        currency="EUR",
        priority=90,
        effective_at=OCTOBER,
        expires_at=None,
        idempotency_key="top-up",
        at=OCTOBER,
    )
    builders.use(customer, 100, occurred_at=MID)
    closing.close_due(at=CLOSING)
    assert PeriodSettlement.objects.get().rolled_microtokens == 200 * TOKEN
    [top_up] = lots(customer, "top_up")
    assert top_up.remaining_microtokens == 5_000 * TOKEN


def test_what_rolled_over_once_expires_and_does_not_roll_again():
    customer = scene()
    closing.close_due(at=CLOSING)
    december = datetime(2026, 12, 1, tzinfo=UTC)
    closing.close_due(at=december + DAY)
    grants.expire_due(at=december + DAY)
    [from_october, from_november] = sorted(
        lots(customer, "rollover"), key=lambda lot: lot.effective_at
    )
    assert from_october.expires_at == december
    assert from_october.remaining_microtokens == 0
    assert [movement.kind for movement in queries.movements(lot_id=from_october.id)] == [
        "grant",
        "expire",
    ]
    assert from_november.granted_microtokens == 200 * TOKEN


def test_the_rollover_of_a_top_up_is_its_own_and_a_plan_without_rollover_leaves_it_alone():
    customer = scene(rollover_basis_points=0)
    grants.grant(
        account_id=customer.account_id,
        microtokens=10 * TOKEN,
        source="top_up",
        price_micros=0,
        currency="EUR",
        priority=90,
        effective_at=OCTOBER,
        expires_at=NOVEMBER,
        rollover_microtokens_max=10 * TOKEN,
        rollover_expires_at=NOVEMBER + 30 * DAY,
        idempotency_key="top-up",
        at=OCTOBER,
    )
    closing.close_due(at=CLOSING)
    grants.expire_due(at=CLOSING)
    settlement = PeriodSettlement.objects.get()
    assert (settlement.rolled_microtokens, settlement.expired_microtokens) == (0, 1_000 * TOKEN)
    [kept] = lots(customer, "rollover")
    assert kept.remaining_microtokens == 10 * TOKEN


def test_the_closing_takes_its_own_lot_only():
    customer = scene(allotment_microtokens=50 * TOKEN, rollover_basis_points=0)
    grants.grant(
        account_id=customer.account_id,
        microtokens=100 * TOKEN,
        source="top_up",
        price_micros=0,
        currency="EUR",
        priority=90,
        effective_at=OCTOBER,
        expires_at=None,
        idempotency_key="paid",
        at=OCTOBER,
    )
    # Accepted in time, debited only by the closing itself: it empties the expiring lot.
    builders.accept(
        customer, builders.new_run(customer, 50, occurred_at=NOVEMBER - DAY), at=NOVEMBER - DAY
    )
    closing.close_due(at=CLOSING)
    assert PeriodSettlement.objects.get().expired_microtokens == 0
    [paid] = lots(customer, "top_up")
    assert paid.remaining_microtokens == 100 * TOKEN


def test_tokens_of_a_period_that_is_over_cannot_be_spent_before_its_closing_has_run():
    customer = scene(allotment_price=Decimal(0))
    at = NOVEMBER + timedelta(hours=3)
    balance = queries.balances(account_ids=[customer.account_id], at=at)[customer.account_id]
    assert balance.available_microtokens == 0
    builders.use(customer, 10, occurred_at=at)
    [allotment] = lots(customer, "allotment")
    assert allotment.remaining_microtokens == 1_000 * TOKEN


def test_a_run_of_the_last_seconds_that_comes_in_the_grace_is_paid_by_its_period():
    customer = scene()
    subscriptions.renew_due(at=NOVEMBER)
    builders.use(
        customer,
        10,
        occurred_at=NOVEMBER - timedelta(seconds=10),
        at=NOVEMBER + timedelta(minutes=10),
    )
    october, november = sorted(lots(customer, "allotment"), key=lambda lot: lot.effective_at)
    assert (october.out_microtokens, november.out_microtokens) == (10 * TOKEN, 0)


def test_late_usage_of_a_closed_period_may_not_use_a_later_grant():
    customer = scene(**builders.billed())
    closing.close_due(at=CLOSING)
    builders.use(customer, 10, occurred_at=NOVEMBER - timedelta(seconds=10), at=CLOSING)
    november = Period.objects.get(number=2)
    [allotment] = [lot for lot in lots(customer) if lot.id == november.allotment_lot_id]
    assert allotment.out_microtokens == 0


def test_a_closing_bills_the_overage_by_tier_and_the_next_period_in_advance():
    customer = scene(**builders.billed())
    builders.use(customer, 1_251, occurred_at=MID)
    closing.close_due(at=CLOSING)
    assert lines(Invoice.Occasion.OPENING) == [("platform_fee", "5E+2"), ("allotment", "1E+3")]
    assert lines() == [
        ("overage", "0"),
        ("overage", "0.02"),
        ("platform_fee", "5E+2"),
        ("allotment", "1E+3"),
    ]
    closed = PeriodClosing.objects.get()
    assert (closed.overage_microtokens, closed.overage_micros) == (251 * TOKEN, 20_000)
    invoice = closed.invoice
    assert invoice is not None
    assert sum(line.amount.amount for line in invoice.lines.all()) == Decimal("1500.02")
    assert [line.description for line in invoice.lines.all()] == [
        "Overage, 1 October 2026 to 1 November 2026: 250 tokens free",
        "Overage, 1 October 2026 to 1 November 2026: 1 token at €0.02",
        "Platform fee, 1 November 2026 to 1 December 2026",
        "Allotment of 1,000 tokens, 1 November 2026 to 1 December 2026",
    ]
    balance = queries.balances(account_ids=[customer.account_id], at=MID)[customer.account_id]
    assert balance.overage_microtokens == closed.overage_microtokens, "shown = invoiced"


def test_overage_up_to_the_tiers_bound_costs_nothing_beyond_the_tier():
    customer = scene(**builders.billed())
    builders.use(customer, 1_250, occurred_at=MID)
    closing.close_due(at=CLOSING)
    assert lines()[:2] == [("overage", "0"), ("platform_fee", "5E+2")]


def test_a_third_of_a_cent_a_thousand_times_is_rounded_once():
    third = (Tier(up_to_microtokens=None, micros_per_token=3_333),)
    customer = scene(
        allotment_microtokens=0,
        allotment_price=Decimal(0),
        **builders.billed(overage_tiers=third, platform_fee=Decimal(0)),
    )
    for _ in range(7):
        builders.use(customer, 1, occurred_at=MID)
    closing.close_due(at=CLOSING)
    assert lines() == [("overage", "0.02")]
    line = InvoiceLine.objects.get(kind="overage")
    assert (line.micros, line.microtokens) == (7 * 3_333, 7 * TOKEN)


def test_beyond_the_hard_cap_nothing_is_invoiced_and_the_next_grant_repays_it():
    customer = scene(**builders.billed(overage_cap_microtokens=300 * TOKEN))
    builders.use(customer, 1_400, occurred_at=MID)
    closing.close_due(at=CLOSING)
    assert PeriodClosing.objects.get().overage_microtokens == 300 * TOKEN
    november = Period.objects.get(number=2)
    [allotment] = [lot for lot in lots(customer) if lot.id == november.allotment_lot_id]
    assert allotment.remaining_microtokens == 900 * TOKEN
    assert (
        queries.balances(account_ids=[customer.account_id], at=CLOSING)[
            customer.account_id
        ].debt_microtokens
        == 0
    )


def test_late_usage_lands_on_the_next_invoice_as_its_own_line_and_continues_the_tiers():
    customer = scene(**builders.billed())
    builders.use(customer, 1_200, occurred_at=MID)
    closing.close_due(at=CLOSING)
    of_october = InvoiceLine.objects.filter(invoice=PeriodClosing.objects.get().invoice)
    before = list(of_october.values())
    # The allotment's rest is gone: 60 late tokens are overage 201 to 260 of October.
    builders.use(customer, 60, occurred_at=MID, at=CLOSING + DAY)
    december = datetime(2026, 12, 1, tzinfo=UTC)
    closing.close_due(at=december + DAY)
    assert lines(number=2) == [
        ("late_overage", "0"),
        ("late_overage", "0.2"),
        ("platform_fee", "5E+2"),
        ("allotment", "1E+3"),
    ]
    late = InvoiceLine.objects.filter(kind="late_overage").order_by("position")
    assert [(line.period.number, line.from_microtokens) for line in late] == [
        (1, 200 * TOKEN),
        (1, 250 * TOKEN),
    ]
    assert "that came in late, 1 October 2026" in late[0].description
    # The closed invoice is untouched, and nothing is billed again.
    assert list(of_october.values()) == before
    closing.close_due(at=datetime(2027, 1, 2, tzinfo=UTC))
    assert [kind for kind, _ in lines(number=3)] == ["platform_fee", "allotment"]


def test_a_run_that_is_given_back_after_its_invoice_leaves_every_invoice_as_it_was():
    customer = scene(**builders.billed())
    builders.use(customer, 1_200, occurred_at=MID)
    closing.close_due(at=CLOSING)
    builders.use(customer, 60, occurred_at=MID, at=CLOSING + DAY)
    december = datetime(2026, 12, 1, tzinfo=UTC)
    closing.close_due(at=december + DAY)
    before = list(InvoiceLine.objects.order_by("id").values())
    [_, first] = queries.runs(account_id=customer.account_id, runs_max=2)
    corrections.void(
        account=accounts.account(account_id=customer.account_id),
        run_id=first.run_id,
        microtokens=1_150 * TOKEN,
        reason="",
        idempotency_key="void",
        at=december + 2 * DAY,
    )
    # It had used 1,000 of the allotment, which has expired, and 200 of overage.
    [overage] = [lot for lot in lots(customer, "overage") if lot.effective_at == OCTOBER]
    assert overage.out_microtokens == 110 * TOKEN
    # Late overage takes the place of what was given back, which stands on an invoice already.
    builders.use(customer, 20, occurred_at=MID, at=december + 2 * DAY)
    closing.close_due(at=datetime(2027, 1, 2, tzinfo=UTC))
    assert [kind for kind, _ in lines(number=3)] == ["platform_fee", "allotment"]
    assert list(InvoiceLine.objects.order_by("id").values())[: len(before)] == before


def test_what_comes_in_after_the_last_period_is_billed_a_day_later_and_once():
    customer = scene(**builders.billed())
    subscriptions.cancel(subscription_id=customer.subscriptions.get().pk, at=OCTOBER + DAY)
    builders.use(customer, 1_200, occurred_at=MID)
    closing.close_due(at=CLOSING)
    assert closing.bill_late(at=CLOSING + 2 * DAY) == 0
    for hours, tokens in ((1, 60), (5, 40)):
        later = CLOSING + hours * timedelta(hours=1)
        builders.use(customer, tokens, occurred_at=MID, at=later)
        assert closing.bill_late(at=later) == 0
    assert closing.bill_late(at=CLOSING + DAY) == 1
    assert closing.bill_late(at=CLOSING + 2 * DAY) == 0
    assert lines(Invoice.Occasion.LATE) == [("late_overage", "0"), ("late_overage", "1")]
    # Even later: an invoice of its own, a day after the last.
    builders.use(customer, 50, occurred_at=MID, at=CLOSING + DAY)
    assert closing.bill_late(at=CLOSING + 2 * DAY - timedelta(seconds=1)) == 0
    assert closing.bill_late(at=CLOSING + 2 * DAY) == 1
    assert [
        sum(line.microtokens or 0 for line in invoice.lines.all()) // TOKEN
        for invoice in Invoice.objects.filter(occasion="late").order_by("built_at")
    ] == [100, 50]


def test_what_comes_in_late_waits_for_the_next_closing_where_there_is_one():
    customer = scene(**builders.billed())
    closing.close_due(at=CLOSING)
    builders.use(customer, 1_400, occurred_at=MID, at=CLOSING)
    assert closing.bill_late(at=CLOSING + 5 * DAY) == 0


def test_a_period_is_not_closed_before_its_grace_is_over():
    scene()
    period = Period.objects.get()
    early = CLOSING - timedelta(seconds=1)
    assert closing.close_due(at=early) == 0
    with pytest.raises(PeriodNotOver):
        closing.close(period_id=period.pk, at=early)
    assert not PeriodClosing.objects.exists()
    assert closing.close_due(at=CLOSING) == 1


def test_the_last_period_of_a_cancelled_subscription_bills_its_overage_only():
    customer = scene(**builders.billed())
    subscriptions.cancel(subscription_id=customer.subscriptions.get().pk, at=OCTOBER + DAY)
    builders.use(customer, 1_300, occurred_at=MID)
    closing.close_due(at=CLOSING)
    assert lines() == [("overage", "0"), ("overage", "1")]
    assert Period.objects.count() == 1


def test_a_closing_with_nothing_to_bill_makes_no_invoice():
    customer = scene()
    subscriptions.cancel(subscription_id=customer.subscriptions.get().pk, at=OCTOBER + DAY)
    closing.close_due(at=CLOSING)
    assert PeriodClosing.objects.get().invoice is None
    assert not Invoice.objects.filter(occasion="closing").exists()


def outcome():
    """Everything that a closing leaves, without the instants at which it was done."""
    return {
        "lots": sorted(
            (lot.source, lot.granted_microtokens, lot.out_microtokens, lot.price_micros)
            for customer_id in Period.objects.values_list(
                "subscription__customer__account_id", flat=True
            ).distinct()
            for lot in queries.lots(account_ids=[customer_id])
        ),
        "settlements": sorted(
            PeriodSettlement.objects.values_list("rolled_microtokens", "expired_microtokens")
        ),
        "closings": sorted(
            PeriodClosing.objects.values_list("overage_microtokens", "overage_micros")
        ),
        "lines": sorted(InvoiceLine.objects.values_list("kind", "position", "micros", "amount")),
        "calls": sorted(StripeCall.objects.values_list("operation", "attempt")),
    }


def busy_scene():
    customer = scene(**builders.billed())
    builders.use(customer, 900, occurred_at=MID)
    builders.accept(customer, builders.new_run(customer, 400, occurred_at=MID), at=MID)


EXPECTED = {
    "settlements": [(0, 0)],
    "closings": [(300 * TOKEN, 1_000_000)],
    "calls": [("customer.create", 1), ("invoice.create", 1), ("invoice.create", 1)],
}


class Killed(Exception):
    pass


def kill(period, *, after):
    """Begin its closing, and lose the connection after so many steps of its transaction."""
    closing.drain(period=period, at=CLOSING)
    with suppress(Killed), transaction.atomic():
        for step in closing.STEPS[:after]:
            step(period=period, at=CLOSING)
        raise Killed


@pytest.mark.parametrize("killed_after", range(len(closing.STEPS) + 1))
def test_a_closing_killed_between_any_two_steps_is_resumed_to_the_same_end(killed_after):
    busy_scene()
    period = Period.objects.get(number=1)
    kill(period, after=killed_after)
    # Another worker begins again, later, from the start; and then once more.
    closing.close_due(at=CLOSING + timedelta(hours=1))
    first = outcome()
    closing.close(period_id=period.pk, at=CLOSING + timedelta(hours=2))
    assert outcome() == first
    assert {name: first[name] for name in EXPECTED} == EXPECTED


@pytest.mark.parametrize("repeated", range(len(closing.STEPS)))
def test_each_step_of_a_closing_done_twice_is_done_once(repeated):
    busy_scene()
    period = Period.objects.get(number=1)
    closing.drain(period=period, at=CLOSING)
    with transaction.atomic():
        for position, step in enumerate(closing.STEPS):
            for _ in range(2 if position == repeated else 1):
                step(period=period, at=CLOSING)
    found = outcome()
    assert {name: found[name] for name in EXPECTED} == EXPECTED


def test_the_ledgers_own_sweep_before_the_closing_changes_nothing_of_it():
    customer = scene()
    builders.use(customer, 667, occurred_at=MID)
    grants.expire_due(at=CLOSING)
    closing.close_due(at=CLOSING)
    settlement = PeriodSettlement.objects.get()
    assert settlement.rolled_microtokens == 200 * TOKEN
    assert settlement.expired_microtokens == 133 * TOKEN


def test_periods_missed_for_months_are_closed_one_by_one_and_billed_once_each():
    customer = scene(**builders.billed())
    builders.use(customer, 1_300, occurred_at=MID)
    february = datetime(2027, 2, 3, tzinfo=UTC)
    while closing.close_due(at=february):
        pass
    assert PeriodClosing.objects.count() == 4
    assert Period.objects.count() == 5
    fees = InvoiceLine.objects.filter(kind="platform_fee")
    assert sorted(fees.values_list("period__number", flat=True)) == [1, 2, 3, 4, 5]
    overage = InvoiceLine.objects.filter(kind__in=["overage", "late_overage"])
    assert sum(line.microtokens or 0 for line in overage) == 300 * TOKEN
    assert debiting.waiting_shards() == []
    assert customer.account_id
