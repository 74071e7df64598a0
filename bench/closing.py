"""Closing periods: many subscriptions that end at once, each with fifty lines of usage and overage.

The scene is made with the product's own functions (not timed): a vendor, a plan whose overage is
billed by tiers, customers, their subscriptions, and fifty runs each, every one for a workflow and
cost centre of its own. Then two worker processes close what is due, sweep by sweep and each what
the other has not, without Stripe: invoices, and the calls that tell Stripe, are written and wait.
"""

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from time import perf_counter
from typing import Final

from django.db import connection
from rich.console import Console
from rich.progress import track

from bench import database
from bench.figures import Figure
from billing import alerts, catalog, customers, subscriptions
from billing.catalog import PlanTerms
from billing.models import Customer, Invoice, PlanVersion
from billing.terms import Price
from ledger import catalog as ledger_catalog
from ledger import debiting, folding, intake
from ledger.catalog import NewRate
from ledger.intake import NewInference, NewRun
from ledger.units import MICROTOKENS_PER_TOKEN as TOKEN
from ledger.value import Tier

SUBSCRIPTIONS_PER_BATCH: Final = 500
WORKERS: Final = 2
LINES: Final = 50  # of usage, in each period
COST_CENTRES: Final = 5
RUNS_PER_SUBMISSION: Final = 1_000
PERIODS_PER_SECOND_BAR: Final = 100
GROWTH_MB_BAR: Final = 32
OPENED: Final = datetime(2026, 1, 1, tzinfo=UTC)
USED: Final = datetime(2026, 1, 15, tzinfo=UTC)
CLOSED: Final = datetime(2026, 2, 3, tzinfo=UTC)
TIERS: Final = (
    Tier(up_to_microtokens=20 * TOKEN, micros_per_token=30_000),
    Tier(up_to_microtokens=None, micros_per_token=20_000),
)


# Tells of itself when it is connected, waits for a line, closes what it finds, tells how it went.
_WORKER: Final = """
import gc, json, resource, sys
import django
django.setup()
from django.db import connection
from bench.closing import CLOSED
from billing import closing
connection.settings_dict["NAME"] = sys.argv[1]
connection.ensure_connection()
gc.freeze()  # as a worker does when it has loaded its code

def memory_mb():
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1_000_000 if sys.platform == "darwin" else 1_000)

print("ready", flush=True)
sys.stdin.readline()
closed, first = 0, 0
while found := closing.close_due(at=CLOSED):
    closed += found
    first = first or memory_mb()
print(json.dumps({"closed": closed, "first_mb": first, "last_mb": memory_mb()}), flush=True)
"""


def measure(*, batches: int, repetitions: int) -> Iterator[Figure]:
    database.empty()
    wanted = batches * SUBSCRIPTIONS_PER_BATCH
    build(wanted)
    database.checkpoint()
    seconds, told = _close()
    closed = sum(one["closed"] for one in told)
    invoices = Invoice.objects.filter(occasion=Invoice.Occasion.CLOSING)
    assert closed == wanted == invoices.count()
    yield Figure(
        name=f"closing {wanted:,} periods of {LINES} lines of usage, {WORKERS} workers",
        value=wanted / seconds,
        unit="periods/s",
        least=PERIODS_PER_SECOND_BAR,
    )
    last = max(one["last_mb"] for one in told)
    yield Figure(
        name=f"the same, what a worker's memory grew by ({last:,.0f} MB at the end)",
        value=max(one["last_mb"] - one["first_mb"] for one in told),
        unit="MB",
        most=GROWTH_MB_BAR,
    )


def _close() -> tuple[float, list[dict[str, float]]]:
    """Seconds, and what the workers tell of themselves."""
    name = connection.settings_dict["NAME"]
    workers = [
        subprocess.Popen(
            (sys.executable, "-c", _WORKER, name),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(WORKERS)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    begin = perf_counter()
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    outputs = [worker.communicate()[0] for worker in workers]
    return perf_counter() - begin, [json.loads(output) for output in outputs]


@dataclass(frozen=True, kw_only=True)
class _Shop:
    vendor_id: int
    book_id: int
    rate_card_id: int
    version: PlanVersion


def build(wanted: int) -> None:
    shop = _shop()
    console = Console(stderr=True)
    numbers = track(
        range(wanted), "subscriptions", console=console, disable=not console.is_terminal
    )
    waiting: list[NewRun] = []
    for number in numbers:
        waiting += _usage(_subscribed(shop, number))
        if len(waiting) >= RUNS_PER_SUBMISSION:
            intake.accept(book_id=shop.book_id, runs=waiting, at=USED)
            waiting = []
    if waiting:
        intake.accept(book_id=shop.book_id, runs=waiting, at=USED)
    debiting.drain_all(at=USED)
    # As beat has it done, every few seconds.
    folding.fold_all()
    alerts.evaluate(at=USED)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def _shop() -> _Shop:
    code = f"bench-{uuid.uuid4().hex[:8]}"
    vendor = customers.open_vendor(code=code, name="Bench", at=OPENED)
    book_id = vendor.book_id
    unit_id = ledger_catalog.create_unit(book_id=book_id, code="work", name="Work", sentence="Work")
    ledger_catalog.create_meter(book_id=book_id, code="executions", name="Executions")
    ledger_catalog.create_engine(book_id=book_id, code="engine", name="Engine")
    rate_card_id = ledger_catalog.publish_rate_card(
        book_id=book_id,
        unit_id=unit_id,
        code="standard",
        name="Standard",
        effective_at=OPENED - timedelta(days=1),
        rates=[NewRate(meter="executions")],
        at=OPENED,
    )
    price = Price(
        currency="EUR",
        platform_fee=Decimal(500),
        allotment_price=Decimal(1),
        overage_tiers=TIERS,
    )
    terms = PlanTerms(
        unit_id=unit_id,
        rate_card_id=rate_card_id,
        prices=[price],
        allotment_microtokens=LINES * TOKEN,
        overage_policy=PlanVersion.OveragePolicy.BILL,
    )
    plan = catalog.create_plan(vendor_id=vendor.pk, code="plan", name="Plan")
    draft = catalog.draft(plan_id=plan.pk, terms=terms)
    version = catalog.publish(version_id=draft.pk, at=OPENED)
    return _Shop(vendor_id=vendor.pk, book_id=book_id, rate_card_id=rate_card_id, version=version)


def _subscribed(shop: _Shop, number: int) -> Customer:
    customer = customers.open_customer(
        vendor_id=shop.vendor_id,
        code=f"customer-{number}",
        name="Customer",
        email="customer@example.com",
        currency="EUR",
        time_zone="UTC",
        rate_card_id=shop.rate_card_id,
        at=OPENED,
    )
    subscriptions.subscribe(
        customer_id=customer.pk,
        plan_version_id=shop.version.pk,
        starts_at=OPENED,
        idempotency_key=uuid.uuid4(),
        at=OPENED,
    )
    return customer


def _usage(customer: Customer) -> list[NewRun]:
    """Of three tokens a run: two thirds of them are overage."""
    return [
        NewRun(
            id=f"{customer.code}-{line}",
            account=customer.code,
            workflow=f"workflow-{line // COST_CENTRES}",
            cost_centre=f"centre-{line % COST_CENTRES}",
            occurred_at=USED - timedelta(hours=line),
            inferences=[NewInference(engine="engine", quantities={"executions": 3})],
        )
        for line in range(LINES)
    ]
