"""A commitment: what a term lacks of it is invoiced at its end, and never twice."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from billing import catalog, closing, explain, subscriptions, terms
from billing.errors import InvalidInput
from billing.invariants import violations
from billing.models import InvoiceLine
from ledger import catalog as ledger_catalog
from ledger.value import Tier
from tests import builders
from tests.builders import DAY, NOVEMBER, OCTOBER, TOKEN

pytestmark = pytest.mark.django_db

MID = OCTOBER + 15 * DAY
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)
A_EURO_A_TOKEN = (Tier(up_to_microtokens=None, micros_per_token=1_000_000),)
# 100 of fee and 50 of allotment in advance: overage may bring it to 200.
TERMS = {
    "platform_fee": Decimal(100),
    "allotment_microtokens": 10 * TOKEN,
    "allotment_price": Decimal(50),
    "commitment": Decimal(200),
    "overage_tiers": A_EURO_A_TOKEN,
    "rollover_basis_points": 0,
}


@pytest.fixture
def customer():
    shop = builders.shop()
    customer = builders.customer(shop)
    builders.subscription(customer, builders.plan_version(shop, **builders.billed(**TERMS)))
    return customer


def october() -> list[tuple[str, str]]:
    """What October came to, on whatever invoice, in the order in which it was invoiced."""
    lines = InvoiceLine.objects.filter(period__number=1).order_by("invoice__built_at", "position")
    return [(line.kind, f"{line.amount.amount.normalize():f}") for line in lines]


IN_ADVANCE = [("platform_fee", "100"), ("allotment", "50")]


@pytest.mark.parametrize(
    ("used", "then"),
    [
        (0, [("true_up", "50")]),
        (10, [("true_up", "50")]),
        (11, [("overage", "1"), ("true_up", "49")]),
        (59, [("overage", "49"), ("true_up", "1")]),
        (60, [("overage", "50")]),
        (500, [("overage", "490")]),
    ],
)
def test_a_term_comes_to_its_commitment(customer, used: int, then: list[tuple[str, str]]) -> None:
    if used:
        builders.use(customer, used, occurred_at=MID)
    closing.close_due(at=NOVEMBER + DAY)
    assert october() == IN_ADVANCE + then
    closing.close_due(at=DECEMBER + DAY)
    assert october() == IN_ADVANCE + then
    assert violations() == {}


def test_each_term_has_its_own(customer) -> None:
    builders.use(customer, 1_000, occurred_at=MID)
    closing.close_due(at=NOVEMBER + DAY)
    closing.close_due(at=DECEMBER + DAY)
    [true_up] = InvoiceLine.objects.filter(kind="true_up")
    assert true_up.period.number == 2
    assert str(true_up.amount) == "€50.00"
    assert "True-up to the commitment of €200.00, 1 November 2026" in true_up.description


def test_late_overage_is_paid_by_the_true_up_as_far_as_that_goes(customer) -> None:
    builders.use(customer, 40, occurred_at=MID)  # 30 of overage, 20 of true-up
    closing.close_due(at=NOVEMBER + DAY)
    builders.use(customer, 15, occurred_at=MID, at=NOVEMBER + 2 * DAY)
    closing.close_due(at=DECEMBER + DAY)
    builders.use(customer, 12, occurred_at=MID, at=DECEMBER + 2 * DAY)
    closing.close_due(at=datetime(2027, 1, 2, tzinfo=UTC))
    before, after = InvoiceLine.objects.filter(kind="late_overage").order_by("id")
    assert (before.micros, before.covered_micros) == (0, 15_000_000)
    assert before.description.endswith("(€15.00 of it paid by the true-up)")
    assert (after.micros, after.covered_micros) == (7_000_000, 5_000_000)
    assert violations() == {}


def test_lines_of_several_tiers_are_covered_in_their_order() -> None:
    shop = builders.shop()
    customer = builders.customer(shop)
    tiers = (
        Tier(up_to_microtokens=10 * TOKEN, micros_per_token=1_000_000),
        Tier(up_to_microtokens=None, micros_per_token=4_000_000),
    )
    changed = builders.billed(**{**TERMS, "overage_tiers": tiers})
    builders.subscription(customer, builders.plan_version(shop, **changed))
    closing.close_due(at=NOVEMBER + DAY)  # a true-up of 50
    builders.use(customer, 35, occurred_at=MID, at=NOVEMBER + 2 * DAY)  # 10 have expired: 35
    closing.close_due(at=DECEMBER + DAY)
    first, second = InvoiceLine.objects.filter(kind="late_overage").order_by("position")
    assert (first.micros, first.covered_micros) == (0, 10_000_000)
    assert (second.micros, second.covered_micros) == (60_000_000, 40_000_000)


def test_the_amounts_of_rounded_lines_come_to_the_commitment() -> None:
    shop = builders.shop()
    customer = builders.customer(shop)
    third = (Tier(up_to_microtokens=None, micros_per_token=3_333),)
    changed = builders.billed(**{**TERMS, "overage_tiers": third})
    builders.subscription(customer, builders.plan_version(shop, **changed))
    builders.use(customer, 15, occurred_at=MID)  # 5 of overage: 1.6665 cents
    closing.close_due(at=NOVEMBER + DAY)
    assert october() == [*IN_ADVANCE, ("overage", "0.02"), ("true_up", "49.98")]


def test_a_run_late_after_everything_ended_is_covered_too(customer) -> None:
    subscriptions.cancel(subscription_id=customer.subscriptions.get().pk, at=MID)
    closing.close_due(at=NOVEMBER + DAY)
    builders.use(customer, 60, occurred_at=MID, at=NOVEMBER + 3 * DAY)
    assert closing.bill_late(at=NOVEMBER + timedelta(days=4)) == 1
    late = InvoiceLine.objects.get(kind="late_overage")
    assert (late.micros, late.covered_micros) == (10_000_000, 50_000_000)


@pytest.mark.parametrize(
    ("commitment", "rule"), [("150", "reached"), ("-1", "range"), ("200.001", "payable")]
)
def test_a_commitment_that_makes_no_sense_is_refused(commitment: str, rule: str) -> None:
    shop = builders.shop()
    asked = builders.terms(shop, **builders.billed(**{**TERMS, "commitment": Decimal(commitment)}))
    with pytest.raises(InvalidInput) as refused:
        catalog.draft(plan_id=builders.plan(shop).pk, terms=asked)
    found = [(fault.field, fault.rule) for fault in refused.value.faults]
    assert found == [("prices.EUR.commitment", rule)]


def said_of(**changed) -> explain.Explanation:
    version = builders.plan_version(builders.shop(), **builders.billed(**{**TERMS, **changed}))
    return explain.explain(
        terms=terms.of_version(version=version, currency="EUR"),
        unit=ledger_catalog.unit(unit_id=version.unit_id),
    )


def test_the_plan_says_it_and_reckons_with_it() -> None:
    said = said_of(commitment=Decimal(999))
    assert (
        "Each month comes to €999.00 at least: if platform fee, allotment and overage together do"
        " not, the rest is invoiced after the month's end."
    ) in said.sentences
    assert said.example[-2:] == ("True-up to €999.00: €749.00.", "Together €999.00.")


def test_a_plan_without_one_says_nothing_of_it() -> None:
    said = said_of(commitment=Decimal(0))
    assert not [
        one for one in (*said.sentences, *said.example) if "at least" in one or "ue-up" in one
    ]
    assert said.example[-1] == "Together €250.00."
