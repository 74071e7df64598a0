"""`manage.py check_billing` finds what is broken on purpose, rule by rule."""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from djmoney.money import Money

from billing import (
    changes,
    closing,
    cohorts,
    crediting,
    invoicing,
)
from billing.changes import Wanted
from billing.invariants import NAMES, violations
from billing.models import (
    Invoice,
    TopUp,
    TopUpFulfilment,
    TopUpPayment,
)
from ledger import grants
from tests import builders
from tests.billing import broken_reversals
from tests.billing.bookkeeping import FAULTS_OF_BOOKS, take_up_books
from tests.billing.paying import FAULTS_OF_PAYING, pay_in_all_ways
from tests.builders import DAY, NOVEMBER, OCTOBER, TOKEN
from tests.conftest import broken_rules

pytestmark = pytest.mark.django_db

MID = OCTOBER + 10 * DAY
SEPTEMBER = OCTOBER - 30 * DAY


@pytest.fixture
def history() -> None:
    """Two customers' October is closed: one has tokens left and had a credit, one has overage and
    bought a pack, and changed to a larger plan.

    A third's September came to too little to be charged, and was carried over to October's.
    """
    shop = builders.shop()
    thrifty, keen = builders.customer(shop), builders.customer(shop)
    version = builders.plan_version(shop, **builders.billed(welcome_microtokens=TOKEN))
    for customer, tokens in ((thrifty, 667), (keen, 1_300)):
        builders.subscription(customer, version)
        builders.use(customer, tokens, occurred_at=MID)
    pilot = cohorts.create_cohort(vendor_id=shop.vendor.pk, name="Pilot")
    cohorts.add_members(cohort_id=pilot.pk, customers=[keen])
    _changed(keen, builders.plan_version(shop, **builders.billed(**LARGER)))
    crediting.record(
        customer=thrifty,
        amount=Money(10, "EUR"),
        reason="goodwill",
        description="Sorry",
        idempotency_key="sorry",
        at=MID,
    )
    modest = builders.customer(shop)
    free = {"platform_fee": Decimal(0), "allotment_microtokens": 0, "allotment_price": Decimal(0)}
    version = builders.plan_version(shop, **builders.billed(**free))
    builders.subscription(modest, version, starts_at=SEPTEMBER)
    for tokens, month in ((252, SEPTEMBER), (300, OCTOBER)):
        builders.use(modest, tokens, occurred_at=month + 10 * DAY)
        closing.close_due(at=month + 32 * DAY)
    closing.close_due(at=NOVEMBER + DAY)
    for invoice in Invoice.objects.filter(carried=None):
        subtotal = sum((line.amount for line in invoice.lines.all()), start=Money(0, "EUR"))
        invoicing.record_finalization(
            invoice=invoice,
            stripe_invoice_id=f"in_{invoice.pk}",
            number="1",
            hosted_url="",
            subtotal=subtotal,
            total=subtotal + Money(1, "EUR"),
            finalized_at=NOVEMBER,
        )
        invoicing.record_payment(
            invoice=invoice, amount=subtotal + Money(1, "EUR"), paid_at=NOVEMBER
        )
    pack = builders.pack(shop)
    broken_reversals.refunded_and_disputed(_bought(keen, pack))
    broken_reversals.credited()
    pay_in_all_ways(keen, pack)
    take_up_books(keen)


LARGER = {"platform_fee": Decimal(700), "allotment_microtokens": 1_010 * TOKEN}


def _changed(customer, version):
    changes.change_now(
        subscription_id=customer.subscriptions.get().pk,
        wanted=Wanted(plan_version_id=version.pk),
        idempotency_key=uuid.uuid4(),
        at=MID + DAY,
    )


def _bought(customer, pack):
    top_up = TopUp.objects.create(
        id=uuid.uuid4(),
        customer=customer,
        pack=pack,
        microtokens=pack.microtokens,
        price=builders.PACK_PRICE,
        validity_months=12,
        begun_at=NOVEMBER,
    )
    TopUpPayment.objects.create(
        top_up=top_up, stripe_payment_intent_id="pi_1", amount=builders.PACK_PRICE, paid_at=NOVEMBER
    )
    granted = grants.grant(
        account_id=customer.account_id,
        microtokens=pack.microtokens,
        source="top_up",
        price_micros=600 * 1_000_000,
        currency="EUR",
        priority=50,
        effective_at=NOVEMBER,
        expires_at=NOVEMBER + 365 * DAY,
        idempotency_key=f"top_up:{top_up.pk}",
        at=NOVEMBER,
    )
    TopUpFulfilment.objects.create(top_up=top_up, lot_id=granted.lot_id, fulfilled_at=NOVEMBER)
    return top_up


@contextmanager
def broken(change: str) -> Iterator[None]:
    """Billing as a fault of ours, or somebody with the database's password, might leave it."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL session_replication_role = replica")
            cursor.execute(change)
            assert cursor.rowcount > 0
        yield
        transaction.set_rollback(True)


OF_OVERAGE = "kind = 'overage'"
CARRIED = "SELECT invoice_id FROM billing_invoicecarried"
FAULTS = (
    FAULTS_OF_BOOKS
    | broken_reversals.FAULTS
    | FAULTS_OF_PAYING
    | {
        "a published version has a price, and each its tiers or package if overage is invoiced": [
            "DELETE FROM billing_planprice",
            "DELETE FROM billing_overagetier",
            "UPDATE billing_planversion SET overage_policy = 'block'",
            "UPDATE billing_planprice SET package_price = 1",
        ],
        "a subscription's plan is sold in its customer's currency": [
            "UPDATE billing_planprice SET currency = 'USD'",
        ],
        "a subscription has a size if its plan comes in sizes, and seats if they have a price": [
            "UPDATE billing_subscription SET seats = 1",
            "UPDATE billing_subscription SET size_id = 1",
            "INSERT INTO billing_sizeoption (version_id, currency, code, name,"
            " allotment_microtokens, allotment_price)"
            " SELECT DISTINCT plan_version_id, 'EUR', 'one', 'One', 1, 1 FROM billing_subscription",
        ],
        "a gift is a free lot of its customer, of the size that the plan gives": [
            "UPDATE billing_gift SET lot_id = -lot_id",
            "UPDATE billing_gift SET kind = 'trial'",
            "UPDATE billing_gift SET plan_id = plan_id + 1",
        ],
        "a cohort, its customers and what it is offered are one vendor's": [
            "UPDATE billing_cohort SET vendor_id = 0",
        ],
        "an allotment that waits for its payment is granted when its invoice is paid": [
            "UPDATE billing_planversion SET grant_on_payment = true",
        ],
        "a settlement says what the ledger moved out of the allotment": [
            "UPDATE billing_periodsettlement SET expired_microtokens = expired_microtokens + 1",
            "UPDATE billing_periodsettlement SET rolled_microtokens = rolled_microtokens + 1",
        ],
        "what rolled over is in the lot that the settlement names": [
            "UPDATE billing_periodsettlement SET rolled_micros = rolled_micros + 1",
            "UPDATE billing_periodsettlement SET rolled_lot_id = NULL",
        ],
        "a period's lots are its customer's, of its plan's size": [
            "UPDATE billing_period SET allotment_lot_id = NULL",
            "UPDATE billing_period SET overage_lot_id = allotment_lot_id",
            "UPDATE billing_planversion SET allotment_microtokens = allotment_microtokens + 1",
        ],
        "a change's further lot is its customer's, and as large and dear as the change says": [
            "UPDATE billing_planchange SET allotment_micros = allotment_micros + 1",
            "UPDATE billing_planchange SET allotment_lot_id = 1",
        ],
        "a change is invoiced, or credited, as it says": [
            "UPDATE billing_planchange SET fee_micros = fee_micros + 1",
            "UPDATE billing_planchange SET fee_micros = -fee_micros, invoice_id = NULL",
        ],
        "no period is granted more than the largest plan that it had": [
            "UPDATE billing_planchange SET allotment_microtokens = allotment_microtokens * 3",
        ],
        "overage is billed no further than runs have used": [
            f"UPDATE billing_overagestep SET to_microtokens = to_microtokens + {TOKEN}",
        ],
        "steps of billed overage follow one another, from nothing on": [
            "UPDATE billing_overagestep SET number = 2",
            "UPDATE billing_overagestep SET from_microtokens = 1",
        ],
        "a step of overage comes to what its tiers ask": [
            "UPDATE billing_overagestep SET micros = micros + 1",
            "UPDATE billing_overagestep SET from_microtokens = to_microtokens - 1000000",
        ],
        "lines ask for what overage came to at the steps that made it more": [
            "DELETE FROM billing_overagestep",
            f"UPDATE billing_invoiceline SET micros = micros + 1 WHERE {OF_OVERAGE} AND micros > 0",
            f"DELETE FROM billing_invoiceline WHERE {OF_OVERAGE} AND micros > 0",
        ],
        "what overage came to less, and the commitment does not keep, is a credit": [
            "UPDATE billing_overagestep SET micros = -1000000",
            "UPDATE billing_credit SET reason = 'overage'",
        ],
        "a closing says what its invoice's overage comes to": [
            "UPDATE billing_periodclosing SET overage_micros = overage_micros + 1",
            "UPDATE billing_periodclosing SET overage_microtokens = overage_microtokens + 1",
        ],
        "a closed period has come to its commitment": [
            "UPDATE billing_planprice SET commitment = commitment + 1e6",
            "UPDATE billing_invoiceline SET kind = 'true_up' WHERE kind = 'platform_fee'",
        ],
        "no more of a credit is used up than was given, and by its customer's invoices": [
            "UPDATE billing_credit SET amount = amount - 0.01",
            "UPDATE billing_credit SET customer_id = (SELECT max(id) FROM billing_customer)",
            "UPDATE billing_credituse SET currency = 'USD'",
        ],
        "a line asks for what it costs, less what credits paid of it": [
            "DELETE FROM billing_credituse",
            "UPDATE billing_invoiceline SET amount = amount + 0.01 WHERE kind = 'allotment'",
        ],
        "a commitment pays for no more late overage than was paid for it": [
            "UPDATE billing_invoiceline SET covered_micros = 1, kind = 'late_overage'"
            f" WHERE {OF_OVERAGE}",
        ],
        "a closed period is settled": ["DELETE FROM billing_periodsettlement"],
        "a top-up is fulfilled by one lot of its size, its customer's, and one of its bonus": [
            "UPDATE billing_topup SET microtokens = microtokens + 1",
            "UPDATE billing_topup SET bonus_microtokens = bonus_microtokens + 1",
            "UPDATE billing_topupfulfilment SET lot_id = -lot_id",
            "UPDATE billing_topupfulfilment SET bonus_lot_id = -lot_id",
        ],
        "a top-up that is paid is fulfilled": ["DELETE FROM billing_topupfulfilment"],
        "a lot that was bought fulfils a top-up": ["DELETE FROM billing_topupfulfilment"],
        "an invoice is in its customer's currency, and so are its lines": [
            "UPDATE billing_invoice SET currency = 'USD'",
            "DELETE FROM billing_invoiceline",
        ],
        "an invoice that is carried over was too small, and Stripe never hears of it": [
            f"UPDATE billing_stripecall SET aggregate_id = ({CARRIED}) WHERE id = ("
            "SELECT min(id) FROM billing_stripecall WHERE operation = 'invoice.create')",
            f"UPDATE billing_invoicefinalization SET invoice_id = ({CARRIED}) WHERE id = ("
            "SELECT min(id) FROM billing_invoicefinalization)",
        ],
        "what was carried over stands on a later invoice of the same customer, to the cent": [
            "UPDATE billing_invoiceline SET amount = amount + 0.01 WHERE kind = 'carried'",
            "DELETE FROM billing_invoicecarried",
            f"UPDATE billing_invoice SET built_at = built_at + '90 days' WHERE id = ({CARRIED})",
            "UPDATE billing_invoice SET customer_id = (SELECT min(id) FROM billing_customer)"
            f" WHERE id = ({CARRIED})",
        ],
        "a carried invoice waits for a next one, or stands on it": [
            "DELETE FROM billing_invoiceline WHERE kind = 'carried'",
        ],
        "what Stripe issued before tax is the sum of the lines": [
            "UPDATE billing_invoicefinalization SET subtotal = subtotal + 0.01",
            "UPDATE billing_invoicefinalization SET total = subtotal - 1",
            f"DELETE FROM billing_invoiceline WHERE NOT {OF_OVERAGE}",
        ],
        "an invoice that is paid is paid whole": [
            "UPDATE billing_invoicepayment SET amount = amount - 0.01",
            "DELETE FROM billing_invoicefinalization",
        ],
    }
)
CASES = [(name, change) for name, changes in FAULTS.items() for change in changes]


def test_a_fault_is_known_for_every_rule() -> None:
    assert set(FAULTS) == set(NAMES)


def test_a_broken_rule_is_found(history: None, subtests: pytest.Subtests) -> None:
    for name, change in CASES:
        with subtests.test(name, change=change), broken(change):
            assert name in violations()
            assert name in broken_rules()


def test_sound_billing_is_told_in_a_sentence_and_as_json(history: None) -> None:
    out = StringIO()
    call_command("check_billing", stdout=out)
    assert out.getvalue() == f"Billing is sound: {len(NAMES)} rules hold.\n"
    out = StringIO()
    call_command("check_billing", "--json", stdout=out)
    assert json.loads(out.getvalue()) == {"sound": True, "checked": len(NAMES), "broken": {}}


def test_what_is_broken_is_named_row_by_row_and_the_command_fails(history: None) -> None:
    err, out = StringIO(), StringIO()
    by_hand = "top_up_id NOT IN (SELECT top_up_id FROM billing_topupcharge)"
    with broken(f"DELETE FROM billing_topupfulfilment WHERE {by_hand}"):
        with pytest.raises(CommandError, match=r"not sound: 2 of \d+ rules broken"):
            call_command("check_billing", stderr=err)
        with pytest.raises(SystemExit) as end:
            call_command("check_billing", "--json", stdout=out)
    assert err.getvalue().splitlines()[:2] == [
        "BROKEN  a top-up that is paid is fulfilled",
        f"        {TopUp.objects.get(charge=None).pk}",
    ]
    assert end.value.code == 1
    assert json.loads(out.getvalue())["sound"] is False
