"""FOCUS: the scenarios of the specification's appendix on virtual currencies, with its values.

https://github.com/FinOps-Open-Cost-and-Usage-Spec/FOCUS_Spec: specification/data/saas_examples,
virtual_currency_pricing_model_{a1,a2,b1,b2,b3,c}.csv. A run is an execution.
"""

import csv
import io
import json
import uuid
from datetime import UTC, date, datetime
from decimal import Decimal
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from djmoney.money import Money

from billing import closing, focus, top_ups
from billing.models import InvoiceLine
from ledger import catalog, debiting
from ledger.catalog import NewRate
from ledger.value import Tier
from tests import builders
from tests.billing.bookkeeping import issue
from tests.builders import DAY, TOKEN

pytestmark = pytest.mark.django_db

APRIL = datetime(2025, 4, 1, tzinfo=UTC)
WORK = {"Q Widget": (245, 1), "Z Widget": (5, 2), "Workflow": (120, 3)}
YEAR = {"charge_period_start": APRIL, "charge_period_end": datetime(2026, 4, 1, tzinfo=UTC)}
COSTS = ("consumed_quantity", "billed_cost", "effective_cost", "contracted_cost", "list_cost")
UNIT_PRICES = ("contracted_unit_price", "list_unit_price")
TOKENS = (
    "pricing_currency_contracted_unit_price",
    "pricing_currency_effective_cost",
    "pricing_currency_list_unit_price",
)


def rates(**changed):
    prices = {name: tokens for name, (_, tokens) in WORK.items()} | changed
    return [
        NewRate(meter="executions", workflow=name, microtokens=tokens * TOKEN)
        for name, tokens in prices.items()
    ]


def acme(*, price, discounted=False, **changed):
    """Acme on an annual plan of 100,000 tokens at OmniQuery, which lists a token at $2."""
    shop = builders.shop(rates=rates(), code="omniquery")
    builders.pack(shop, tokens=25_000, price=Money(50_000, "USD"))
    if discounted:
        card_id = catalog.publish_rate_card(
            book_id=shop.vendor.book_id,
            unit_id=shop.unit_id,
            code="modified",
            name="Modified",
            effective_at=builders.OPENED,
            rates=rates(Workflow=2),
            at=builders.OPENED,
        )
        shop = builders.Shop(vendor=shop.vendor, unit_id=shop.unit_id, rate_card_id=card_id)
    customer = builders.customer(shop, code="acme", name="=cmd()", currency="USD")
    terms: dict[str, Any] = {
        "currency": "USD",
        "term_months": 12,
        "platform_fee": Decimal(0),
        "allotment_microtokens": 100_000 * TOKEN,
        "allotment_price": Decimal(price),
    }
    version = builders.plan_version(shop, **terms | changed)
    builders.subscription(customer, version, starts_at=APRIL)
    return customer


def work(customer):
    """The first day's executions, a run each."""
    at = APRIL + DAY / 2
    runs = [
        builders.new_run(customer, 1, occurred_at=at, workflow=name)
        for name, (executions, _) in WORK.items()
        for _ in range(executions)
    ]
    builders.accept(customer, *runs, at=at)
    debiting.drain_all(account_ids=[customer.account_id], at=at)


def charges(customer, category, *, first=date(2025, 4, 1), last=date(2025, 4, 30), card=None):
    wanted = focus.Wanted(customer=customer, first=first, last=last, list_rate_card_id=card)
    found = focus.charges(wanted=wanted)
    return [charge for charge in found if charge.charge_category == category]


def figures(charge, names):
    return tuple(getattr(charge, name) for name in names)


def by_workflow(found, names):
    return {charge.resource_id: figures(charge, names) for charge in found}


@pytest.mark.parametrize(("price", "unit_price"), [(200_000, 2), (100_000, 1)], ids=["A1", "B1"])
def test_a_purchase_of_tokens_is_billed_and_not_effective(price, unit_price):
    customer = acme(price=price)
    [charge] = charges(customer, "Purchase")
    assert figures(charge, COSTS) == (None, price, 0, price, 200_000)
    assert figures(charge, UNIT_PRICES) == (unit_price, 2)
    assert figures(charge, TOKENS) == (unit_price, 0, 2)
    assert (charge.pricing_quantity, charge.pricing_unit) == (100_000, "Token")
    assert (charge.pricing_currency, charge.billing_currency) == ("USD", "USD")
    assert {name: getattr(charge, name) for name in YEAR} == YEAR
    assert (charge.billing_period_start, charge.billing_period_end) == (
        APRIL,
        datetime(2025, 5, 1, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("price", "effective"), [(200_000, (490, 20, 720)), (100_000, (245, 10, 360))], ids=["A2", "B2"]
)
def test_use_is_effective_at_what_its_tokens_had_cost_and_not_billed(price, effective):
    customer = acme(price=price)
    work(customer)
    found = charges(customer, "Usage")
    expected = zip(WORK, (245, 5, 120), effective, (490, 20, 720), strict=True)
    assert by_workflow(found, COSTS) == {
        name: (runs, 0, cost, cost, listed) for name, runs, cost, listed in expected
    }
    assert by_workflow(found, TOKENS) == {
        "Q Widget": (1, 245, 1),
        "Z Widget": (2, 10, 2),
        "Workflow": (3, 360, 3),
    }
    [charge, *_] = found
    assert (charge.charge_period_start, charge.charge_period_end) == (APRIL, APRIL + DAY)
    assert (charge.pricing_currency, charge.consumed_unit) == ("Token", "Run")


def test_b3_use_at_a_modified_rate_has_the_list_rate_beside_it():
    customer = acme(price=100_000, discounted=True)
    work(customer)
    cards = {card.code: card.id for card in catalog.rate_cards(book_id=customer.vendor.book_id)}
    found = charges(customer, "Usage", card=cards["standard"])
    assert by_workflow(found, COSTS)["Workflow"] == (120, 0, 240, 240, 720)
    assert by_workflow(found, UNIT_PRICES)["Workflow"] == (2, 6)
    assert by_workflow(found, TOKENS)["Workflow"] == (2, 240, 3)
    assert by_workflow(found, COSTS)["Q Widget"] == (245, 0, 245, 245, 490)


def test_c_overage_and_a_further_purchase_are_purchases():
    customer = acme(
        price=200,
        term_months=1,
        allotment_microtokens=100 * TOKEN,
        overage_policy="bill",
        overage_tiers=(Tier(up_to_microtokens=None, micros_per_token=2_000_000),),
    )
    run = builders.new_run(customer, 1_600, occurred_at=APRIL + DAY, workflow="Q Widget")
    builders.accept(customer, run, at=APRIL + DAY)
    debiting.drain_all(account_ids=[customer.account_id], at=APRIL + DAY)
    top_up = top_ups.begin(
        customer_id=customer.pk,
        pack_id=customer.vendor.top_up_packs.get().pk,
        idempotency_key=uuid.uuid4(),
        at=APRIL + 2 * DAY,
    )
    top_ups.grant_paid(
        top_up=top_up,
        stripe_payment_intent_id="pi_1",
        amount=Money(60_000, "USD"),
        paid_at=APRIL + 2 * DAY,
        at=APRIL + 2 * DAY,
    )
    closing.close_due(at=APRIL + 31 * DAY)
    found = charges(customer, "Purchase", last=date(2025, 5, 31))
    overage = next(one for one in found if one.sku_price_id.endswith(":overage"))
    further = next(one for one in found if one.sku_price_id.endswith(":top_up"))
    for charge, tokens, cost in ((overage, 1_500, 3_000), (further, 25_000, 50_000)):
        assert figures(charge, COSTS) == (None, cost, 0, cost, cost)
        assert figures(charge, UNIT_PRICES) == (2, 2)
        assert (charge.pricing_quantity, charge.pricing_unit) == (tokens, "Token")
    assert overage.charge_period_start == APRIL
    [usage] = charges(customer, "Usage")
    assert figures(usage, COSTS) == (1, 0, 3_200, 3_200, 3_200)


def test_billed_costs_add_up_to_the_invoices():
    customer = acme(price=200, platform_fee=Decimal("19.99"), commitment=Decimal(300))
    for invoice in customer.invoices.all():
        issue(invoice, at=APRIL)
    found = charges(customer, "Purchase")
    lines = sum(line.amount.amount for line in InvoiceLine.objects.all())
    assert sum(charge.billed_cost for charge in found) == lines > 0
    assert {charge.invoice_id for charge in found} == {customer.invoices.get().finalization.number}


def test_the_command_writes_columns_in_focus_own_names_and_text_that_is_safe(tmp_path):
    customer = acme(price=200_000)
    work(customer)
    file = tmp_path / "focus.csv"
    out = StringIO()
    options = ["--from", "2025-04-01", "--to", "2025-04-30", "--json"]
    call_command("export_focus", "-o", str(file), *options, stdout=out)
    assert json.loads(out.getvalue()) == {"file": str(file), "customers": 1, "rows": 4}
    rows = list(csv.DictReader(io.StringIO(file.read_text())))
    assert set(rows[0]) == set(focus.COLUMNS) >= {"BilledCost", "PricingCurrencyEffectiveCost"}
    used = {row["ResourceId"]: row for row in rows if row["ChargeCategory"] == "Usage"}
    assert used["Workflow"]["EffectiveCost"] == "720"
    assert used["Workflow"]["ChargePeriodEnd"] == "2025-04-02T00:00:00Z"
    assert json.loads(used["Workflow"]["Tags"])["cost_centre"] == "sales"
    assert {row["BillingAccountName"] for row in rows} == {"'=cmd()"}


def test_the_command_refuses_what_is_not_there(tmp_path):
    acme(price=200_000)
    for arguments, refusal in (
        (["--customer", "nobody"], "Omniquery has no customer 'nobody'"),
        (["--list-rate-card", "x"], "no published rate card 'x'; there are: standard"),
        (["--from", "2025-04-02", "--to", "2025-04-01"], "--from 2025-04-02 is after --to"),
    ):
        with pytest.raises(CommandError, match=refusal):
            call_command("export_focus", "-o", str(tmp_path / "x"), *arguments)
