"""Builders of what tests of billing, the portal and the desk begin with. Functions; time is fixed.

A vendor sells work by the execution: one run of one execution costs one token.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.contrib.auth.models import User
from djmoney.money import Money

from billing import catalog, customers, money, packs, subscriptions
from billing.catalog import PlanTerms
from billing.models import (
    Customer,
    Period,
    Plan,
    PlanVersion,
    Subscription,
    TopUp,
    TopUpFulfilment,
    TopUpPack,
    TopUpPayment,
    Vendor,
)
from billing.packs import PriceFrom
from billing.terms import Price
from ledger import access, debiting, grants, intake
from ledger import catalog as ledger_catalog
from ledger.catalog import NewRate
from ledger.intake import NewInference, NewRun
from ledger.units import MICROTOKENS_PER_TOKEN
from ledger.value import Tier

TOKEN = MICROTOKENS_PER_TOKEN
OPENED = datetime(2025, 1, 1, tzinfo=UTC)
OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)
DAY = timedelta(days=1)
PACK_PRICE = Money(600, "EUR")
TIERS = (
    Tier(up_to_microtokens=250 * TOKEN, micros_per_token=0),
    Tier(up_to_microtokens=None, micros_per_token=20_000),
)

_numbers = iter(range(1, 1_000_000_000))


def number() -> int:
    return next(_numbers)


@dataclass(frozen=True, kw_only=True)
class Shop:
    """A vendor with a unit and a published rate card: an execution costs a token."""

    vendor: Vendor
    unit_id: int
    rate_card_id: int


def shop(*, rates: Sequence[NewRate] = (), code: str = "") -> Shop:
    code = code or f"vendor-{number()}"
    sold_by = customers.open_vendor(code=code, name=code.title(), at=OPENED)
    book_id = sold_by.book_id
    unit_id = ledger_catalog.create_unit(
        book_id=book_id, code="work", name="Work", sentence="One token is one execution"
    )
    ledger_catalog.create_meter(book_id=book_id, code="executions", name="Executions")
    ledger_catalog.create_engine(book_id=book_id, code="engine", name="Engine")
    rate_card_id = ledger_catalog.publish_rate_card(
        book_id=book_id,
        unit_id=unit_id,
        code="standard",
        name="Standard",
        effective_at=OPENED,
        rates=rates or [NewRate(meter="executions")],
        at=OPENED,
    )
    return Shop(vendor=sold_by, unit_id=unit_id, rate_card_id=rate_card_id)


def terms(of: Shop, **changed: Any) -> PlanTerms:
    """EUR 500 and 1,000 tokens for EUR 1,000 a month, 20 % roll over, overage is not invoiced.

    `changed` are fields of the terms, or of their one price; `prices` are several.
    """
    price: dict[str, Any] = {
        "currency": "EUR",
        "platform_fee": Decimal(500),
        "allotment_price": Decimal(1_000),
    }
    of_price = {field.name for field in fields(Price)}
    price |= {name: value for name, value in changed.items() if name in of_price}
    facts: dict[str, Any] = {
        "unit_id": of.unit_id,
        "rate_card_id": of.rate_card_id,
        "prices": [Price(**price)],
        "allotment_microtokens": 1_000 * TOKEN,
    }
    others = {name: value for name, value in changed.items() if name not in of_price}
    return PlanTerms(**facts | others)


def billed(**changed: Any) -> dict[str, Any]:
    """Terms of a plan whose overage is invoiced: 250 tokens free, then 0.02 each."""
    policy = PlanVersion.OveragePolicy.BILL
    return {"overage_policy": policy, "overage_tiers": TIERS, **changed}


def plan(of: Shop, *, code: str = "") -> Plan:
    code = code or f"plan-{number()}"
    return catalog.create_plan(vendor_id=of.vendor.pk, code=code, name=code.title())


def plan_version(of: Shop, *, published: bool = True, **changed: Any) -> PlanVersion:
    """A version of a new plan, published unless told otherwise; `changed` are its terms."""
    version = catalog.draft(plan_id=plan(of).pk, terms=terms(of, **changed))
    return publish(version) if published else version


class _Whatever(frozenset[str]):
    def __contains__(self, code: object) -> bool:
        return True


# Every warning before publishing is confirmed by it.
WHATEVER_IS_ODD = _Whatever()


def publish(version: PlanVersion, *, at: datetime = OPENED) -> PlanVersion:
    return catalog.publish(version_id=version.pk, confirmed=WHATEVER_IS_ODD, at=at)


def pack(of: Shop, *, tokens: int = 500, price: Money | None = None, **changed: Any) -> TopUpPack:
    """A published pack: 500 tokens for EUR 600, valid for a year."""
    code = f"pack-{number()}"
    facts = {"prices": [PriceFrom(price=PACK_PRICE if price is None else price)]} | changed
    made = packs.create(
        vendor_id=of.vendor.pk,
        code=code,
        name=f"{tokens} tokens",
        microtokens=tokens * TOKEN,
        **facts,
    )
    return packs.publish(pack_id=made.pk, at=OPENED)


def customer(of: Shop, *, code: str = "", **changed: Any) -> Customer:
    """A customer who pays in EUR with a card that works, in UTC."""
    code = code or f"customer-{number()}"
    facts: dict[str, Any] = {
        "email": f"{code}@example.com",
        "currency": "EUR",
        "time_zone": "UTC",
        "stripe_payment_method_id": "pm_card_visa",
        "default_cost_centre": "sales",
        "name": code.title(),
        "rate_card_id": of.rate_card_id,
    }
    return customers.open_customer(
        vendor_id=of.vendor.pk,
        code=code,
        at=OPENED,
        **facts | changed,
    )


def subscription(
    buyer: Customer,
    version: PlanVersion,
    *,
    starts_at: datetime = OCTOBER,
    at: datetime | None = None,
    **chosen: Any,
) -> Subscription:
    """A subscription since 1 October 2026."""
    return subscriptions.subscribe(
        customer_id=buyer.pk,
        plan_version_id=version.pk,
        starts_at=starts_at,
        idempotency_key=uuid.uuid4(),
        at=starts_at if at is None else at,
        **chosen,
    )


def period(of: Subscription, wanted: int = 1) -> Period:
    return Period.objects.select_related("subscription__plan_version").get(
        subscription=of, number=wanted
    )


def person(name: str = "", *, password: str = "secret", **facts: Any) -> User:
    name = name or f"person-{number()}"
    return User.objects.create_user(name, f"{name}@example.com", password, **facts)


def employee(of: Shop, *, role: str = "admin", **facts: Any) -> User:
    """A person of the vendor."""
    user = person(is_staff=True, **facts)
    access.add_member(book_id=of.vendor.book_id, user=user, role=role)
    return user


def buyer(of: Customer, *, role: str = "admin", **facts: Any) -> User:
    """A person of the customer."""
    user = person(**facts)
    customers.add_member(customer_id=of.pk, user=user, role=role)
    return user


def new_run(
    of: Customer,
    tokens: int,
    *,
    occurred_at: datetime,
    run_id: str = "",
    workflow: str = "review",
    cost_centre: str = "",
) -> NewRun:
    return NewRun(
        id=run_id or f"run-{number()}",
        account=of.code,
        workflow=workflow,
        cost_centre=cost_centre,
        occurred_at=occurred_at,
        inferences=[NewInference(engine="engine", quantities={"executions": tokens})],
    )


def accept(of: Customer, *runs: NewRun, at: datetime) -> None:
    """Take runs in, without debiting them."""
    intake.accept(book_id=of.vendor.book_id, runs=runs, at=at)


def use(
    of: Customer,
    tokens: int,
    *,
    occurred_at: datetime,
    at: datetime | None = None,
    cost_centre: str = "",
) -> None:
    """One run of so many tokens, debited."""
    now = occurred_at if at is None else at
    run = new_run(of, tokens, occurred_at=occurred_at, cost_centre=cost_centre)
    accept(of, run, at=now)
    debiting.drain_all(account_ids=[of.account_id], at=now)


def paid_top_up(of: Customer, bought: TopUpPack, *, at: datetime) -> TopUp:
    """A pack that was bought and paid, without Stripe, and its lot for a year."""
    single = packs.in_currency(pack=bought, currency=of.currency).single
    top_up = TopUp.objects.create(
        customer=of,
        pack=bought,
        microtokens=bought.microtokens,
        price=single.price,
        validity_months=12,
        begun_at=at,
    )
    TopUpPayment.objects.create(
        top_up=top_up, stripe_payment_intent_id=f"pi_{number()}", amount=single.price, paid_at=at
    )
    granted = grants.grant(
        account_id=of.account_id,
        microtokens=bought.microtokens,
        source="top_up",
        price_micros=money.to_micros(single.price),
        currency=single.price.currency.code,
        priority=50,
        effective_at=at,
        expires_at=at + 365 * DAY,
        idempotency_key=f"top_up:{top_up.pk}",
        at=at,
    )
    TopUpFulfilment.objects.create(top_up=top_up, lot_id=granted.lot_id, fulfilled_at=at)
    return top_up
