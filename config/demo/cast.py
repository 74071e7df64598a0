"""Who plays: a vendor of AI agents, what it sells, and three customers whose months differ."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID, uuid5
from zoneinfo import ZoneInfo

from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.db import transaction
from djmoney.money import Money

from billing import catalog, customers, packs, subscriptions
from billing.catalog import PlanTerms
from billing.models import Customer, CustomerMember, PlanVersion, TopUpPack, Vendor
from billing.packs import PriceFrom
from billing.terms import Price
from config import environment
from ledger import access
from ledger import catalog as ledger_catalog
from ledger.catalog import NewRate
from ledger.units import MICROTOKENS_PER_TOKEN
from ledger.value import Tier

DEMO: Final = UUID("0c0de0de-4d0c-5e1f-9a3e-7c2f4f6b8d10")
# What a run costs on average with the rates below and the traffic of traffic.py; the plans are
# cut to it, so that the story is the same for any number of runs.
TOKENS_PER_RUN: Final = Decimal("9.5")


@dataclass(frozen=True, kw_only=True)
class Part:
    """A customer of the story."""

    code: str
    name: str
    email: str
    time_zone: str
    plan: str
    cost_centre: str
    share_percent: int  # of all runs
    buys_a_pack: bool = False


PARTS: Final = (
    # Uses about 70 % of its allotment: some rolls over, the rest expires.
    Part(
        code="lumen-legal",
        name="Lumen Legal",
        email="office@lumen.example",
        time_zone="Europe/Paris",
        plan="team",
        cost_centre="litigation",
        share_percent=28,
    ),
    # Uses about 120 %: the rest is overage, and invoiced.
    Part(
        code="orbit-retail",
        name="Orbit Retail",
        email="ops@orbit.example",
        time_zone="America/New_York",
        plan="team",
        cost_centre="merchandising",
        share_percent=48,
    ),
    # Its plan invoices no overage: what it uses beyond is debt, until it buys a pack.
    Part(
        code="kumo-health",
        name="Kumo Health",
        email="desk@kumo.example",
        time_zone="Asia/Tokyo",
        plan="fixed",
        cost_centre="triage",
        share_percent=24,
        buys_a_pack=True,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Login:
    """A person of the story."""

    address: str  # of the page, without the server
    email: str
    who: str


@dataclass(frozen=True, kw_only=True)
class Cast:
    """The story's people and things, as they stand in the database."""

    vendor: Vendor
    customers: dict[str, Customer]
    pack: TopUpPack
    password: str
    logins: tuple[Login, ...]


def month_before(at: datetime) -> datetime:
    """The first instant (UTC) of the calendar month before the one in which `at` lies."""
    first = at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    year, month = (first.year, first.month - 1) if first.month > 1 else (first.year - 1, 12)
    return first.replace(year=year, month=month)


def enter(*, month: datetime, runs_count: int, say: Callable[[str], None], at: datetime) -> Cast:
    """Set everything up as of the beginning of `month`; what stands already is left as it is."""
    # Another number of runs is another story, with a vendor of its own.
    code = f"northwind-{month:%Y-%m}-{runs_count}"
    # For sale a day before: east of UTC the month begins earlier.
    published_at = month - timedelta(days=1)
    with transaction.atomic():
        vendor = customers.open_vendor(code=code, name="Northwind Agents", at=published_at)
        if not vendor.plans.exists():
            say("vendor: unit, rate card, two plans and a pack are published")
            _publish(vendor, runs_count=runs_count, at=published_at)
        pack = TopUpPack.objects.get(vendor=vendor)
        found = {part.code: _customer(vendor, part, month=month, at=at) for part in PARTS}
        password = environment.kept_secret("demo_password")[:16]
        logins = _people(vendor, found, make_password(password))
    return Cast(vendor=vendor, customers=found, pack=pack, password=password, logins=logins)


def _publish(vendor: Vendor, *, runs_count: int, at: datetime) -> None:
    book_id = vendor.book_id
    for code, name, whole in (
        ("input_tokens", "Input tokens", None),
        ("cached_input_tokens", "Cached input tokens", "input_tokens"),
        ("output_tokens", "Output tokens", None),
    ):
        ledger_catalog.create_meter(book_id=book_id, code=code, name=name, part_of=whole)
    for code, name in (("atlas-large", "Atlas Large"), ("atlas-small", "Atlas Small")):
        ledger_catalog.create_engine(book_id=book_id, code=code, name=name)
    ledger_catalog.create_workflow(
        book_id=book_id,
        code="arbitration-note",
        name="Arbitration note",
        default_cost_centre="commitments",
    )
    unit_id = ledger_catalog.create_unit(
        book_id=book_id,
        code="work-token",
        name="Work token",
        sentence="One token is the work of reading about 1,000 words with Atlas Small.",
    )
    rate_card_id = ledger_catalog.publish_rate_card(
        book_id=book_id,
        unit_id=unit_id,
        code="standard",
        name="Standard",
        effective_at=at - timedelta(days=5 * 365),
        rates=_rates(),
        at=at,
    )
    allotment = int(runs_count * TOKENS_PER_RUN)
    tiers = (
        Tier(up_to_microtokens=allotment // 50 * MICROTOKENS_PER_TOKEN, micros_per_token=12_000),
        Tier(up_to_microtokens=None, micros_per_token=9_000),
    )
    _plan(
        vendor,
        "team",
        "Team",
        PlanTerms(
            unit_id=unit_id,
            rate_card_id=rate_card_id,
            prices=[
                Price(
                    currency="EUR",
                    platform_fee=Decimal(490),
                    allotment_price=Decimal(allotment * 40 // 100) / 100,
                    overage_tiers=tiers,
                )
            ],
            allotment_microtokens=allotment * 40 // 100 * MICROTOKENS_PER_TOKEN,
            overage_policy=PlanVersion.OveragePolicy.BILL,
        ),
        at=at,
    )
    _plan(
        vendor,
        "fixed",
        "Fixed",
        PlanTerms(
            unit_id=unit_id,
            rate_card_id=rate_card_id,
            prices=[
                Price(
                    currency="EUR",
                    platform_fee=Decimal(190),
                    allotment_price=Decimal(allotment * 20 // 100) / 100,
                )
            ],
            allotment_microtokens=allotment * 20 // 100 * MICROTOKENS_PER_TOKEN,
        ),
        at=at,
    )
    pack = packs.create(
        vendor_id=vendor.pk,
        code="boost",
        name="Boost",
        microtokens=allotment * 10 // 100 * MICROTOKENS_PER_TOKEN,
        prices=[PriceFrom(price=Money(Decimal(allotment * 10 // 100) / 100, "EUR"))],
    )
    packs.publish(pack_id=pack.pk, at=at)


def _rates() -> list[NewRate]:
    """Tokens per 1,000 of a meter; the large engine costs five times the small one."""
    prices = {"input_tokens": 1_000_000, "cached_input_tokens": 100_000, "output_tokens": 4_000_000}
    return [
        NewRate(meter=meter, engine=engine, microtokens=price * times, per_quantity=1_000)
        for engine, times in (("atlas-small", 1), ("atlas-large", 5))
        for meter, price in prices.items()
    ]


def _plan(vendor: Vendor, code: str, name: str, terms: PlanTerms, *, at: datetime) -> None:
    plan = catalog.create_plan(vendor_id=vendor.pk, code=code, name=name)
    catalog.publish(version_id=catalog.draft(plan_id=plan.pk, terms=terms).pk, at=at)


def _customer(vendor: Vendor, part: Part, *, month: datetime, at: datetime) -> Customer:
    version = PlanVersion.objects.get(plan__vendor=vendor, plan__code=part.plan)
    starts_at = month.replace(tzinfo=ZoneInfo(part.time_zone))
    customer = customers.open_customer(
        vendor_id=vendor.pk,
        code=part.code,
        name=part.name,
        email=part.email,
        currency="EUR",
        time_zone=part.time_zone,
        rate_card_id=version.rate_card_id,
        default_cost_centre=part.cost_centre,
        stripe_payment_method_id="pm_card_visa",
        at=starts_at,
    )
    subscription = subscriptions.subscribe(
        customer_id=customer.pk,
        plan_version_id=version.pk,
        starts_at=starts_at,
        idempotency_key=uuid5(DEMO, f"{vendor.code}:{part.code}"),
        at=starts_at,
    )
    # As beat did when the present month began.
    subscriptions.renew(subscription_id=subscription.pk, at=at)
    return customer


def _people(vendor: Vendor, found: dict[str, Customer], hashed: str) -> tuple[Login, ...]:
    admin = Login(address="/admin/", email="pricing@northwind.example", who="the pricing owner")
    manager = Login(address="/desk/", email="anna@northwind.example", who="the account manager")
    buyers = {
        part.code: Login(address="/portal/", email=part.email, who=f"the buyer of {part.name}")
        for part in PARTS
    }
    owner = _person(admin, hashed, is_staff=True, is_superuser=True)
    access.add_member(book_id=vendor.book_id, user=owner, role="admin")
    anna = _person(manager, hashed)
    access.add_member(book_id=vendor.book_id, user=anna, role="account_manager")
    for code, login in buyers.items():
        customers.add_member(
            customer_id=found[code].pk,
            user=_person(login, hashed),
            role=CustomerMember.Role.BUYER,
        )
    return (admin, manager, *buyers.values())


def _person(login: Login, hashed: str, **rights: bool) -> Any:
    # The same hash for all: each takes half a second to make, and these are no secrets.
    person, _ = get_user_model().objects.update_or_create(
        username=login.email, defaults={"email": login.email, "password": hashed, **rights}
    )
    return person
