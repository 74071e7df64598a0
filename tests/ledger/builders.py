"""Builders of what most tests of the ledger begin with. Functions; time is fixed.

In tests a token is small: amounts are microtokens, and the book's one rate is a microtoken an
execution, so a run of 7 executions costs 7 microtokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ledger import accounts, catalog, debiting, grants, intake
from ledger.catalog import NewRate
from ledger.intake import Accepted, NewInference, NewRun
from ledger.models import Book
from ledger.units import shard_of
from ledger.value import Package, Tier, Tiers

NOON = datetime(2026, 6, 15, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
A_MICROSECOND = timedelta(microseconds=1)
RATES = (NewRate(meter="executions", microtokens=1),)


@dataclass(frozen=True, kw_only=True)
class Shop:
    """A book with one unit, one meter, one engine and one rate card."""

    book_id: int
    unit_id: int
    rate_card_id: int


def make_shop(rates: Sequence[NewRate] = RATES, *, effective_at: datetime | None = None) -> Shop:
    """Rates hold from a year before NOON on, unless told otherwise."""
    book_id = catalog.create_book(code=f"book-{Book.objects.count()}", name="Vendor")
    unit_id = catalog.create_unit(
        book_id=book_id, code="work", name="Work", sentence="One token is one execution."
    )
    catalog.create_meter(book_id=book_id, code="executions", name="Executions")
    catalog.create_engine(book_id=book_id, code="engine", name="Engine")
    rate_card_id = publish_rates(
        Shop(book_id=book_id, unit_id=unit_id, rate_card_id=0), rates, effective_at=effective_at
    )
    return Shop(book_id=book_id, unit_id=unit_id, rate_card_id=rate_card_id)


def publish_rates(
    shop: Shop, rates: Sequence[NewRate], *, effective_at: datetime | None = None
) -> int:
    return catalog.publish_rate_card(
        book_id=shop.book_id,
        unit_id=shop.unit_id,
        code="standard",
        name="Standard",
        effective_at=NOON - timedelta(days=365) if effective_at is None else effective_at,
        rates=rates,
        at=NOON,
    )


def make_account(
    shop: Shop,
    code: str = "acme",
    *,
    default_cost_centre: str = "sales",
    time_zone: str = "UTC",
) -> int:
    return accounts.open_account(
        book_id=shop.book_id,
        code=code,
        name=code.title(),
        rate_card_id=shop.rate_card_id,
        default_cost_centre=default_cost_centre,
        time_zone=time_zone,
        at=NOON,
    ).id


def make_lot(
    account_id: int,
    microtokens: int,
    *,
    price_micros: int = 0,
    priority: int = 0,
    hours: float | None = None,
    from_hours: float = -1000,
    grace_hours: float = 0,
    rollover_max: int = 0,
    rollover_hours: float | None = None,
    key: str | None = None,
    at: datetime = NOON,
) -> int:
    """A lot that serves runs from `from_hours` after NOON until `hours` after it; its id."""
    granted = grants.grant(
        account_id=account_id,
        microtokens=microtokens,
        source="allotment",
        price_micros=price_micros,
        currency="EUR" if price_micros else "",
        priority=priority,
        effective_at=NOON + from_hours * HOUR,
        expires_at=None if hours is None else NOON + hours * HOUR,
        grace=grace_hours * HOUR,
        rollover_microtokens_max=rollover_max,
        rollover_expires_at=None if rollover_hours is None else NOON + rollover_hours * HOUR,
        idempotency_key=f"lot-{next_number()}" if key is None else key,
        at=at,
    )
    return granted.lot_id


A_MICRO_A_MICROTOKEN = (Tier(up_to_microtokens=None, micros_per_token=1_000_000),)
# One of each model, in numbers so small that bounds coincide often. By volume, the price falls.
SMALL_TIERS = (
    Tiers(
        steps=(
            Tier(up_to_microtokens=3, micros_per_token=1_000_000),
            Tier(up_to_microtokens=None, micros_per_token=400_000),
        )
    ),
    Tiers(
        model="volume",
        steps=(
            Tier(up_to_microtokens=3, micros_per_token=3_000_000),
            Tier(up_to_microtokens=7, micros_per_token=1_500_000),
            Tier(up_to_microtokens=None, micros_per_token=0),
        ),
    ),
    Tiers(model="package", package=Package(microtokens=4, micros=5)),
)


def make_overage(
    account_id: int,
    *,
    tiers: Tiers | Sequence[Tier] = A_MICRO_A_MICROTOKEN,
    cap_microtokens: int | None = None,
    from_hours: float = -1000,
    hours: float = 1000,
) -> int:
    return grants.open_overage(
        account_id=account_id,
        tiers=tiers if isinstance(tiers, Tiers) else Tiers(steps=tuple(tiers)),
        cap_microtokens=cap_microtokens,
        currency="EUR",
        effective_at=NOON + from_hours * HOUR,
        expires_at=NOON + hours * HOUR,
        idempotency_key=f"overage-{next_number()}",
        at=NOON,
    )


def make_run(
    executions: int = 1,
    *,
    run_id: str | None = None,
    account: str = "acme",
    at: datetime = NOON,
    cost_centre: str = "",
    workflow: str = "review",
) -> NewRun:
    return NewRun(
        id=f"run-{next_number()}" if run_id is None else run_id,
        account=account,
        workflow=workflow,
        occurred_at=at,
        cost_centre=cost_centre,
        inferences=[NewInference(engine="engine", quantities={"executions": executions})],
    )


def accept(shop: Shop, runs: Sequence[NewRun], *, at: datetime = NOON + 500 * HOUR) -> Accepted:
    """By default long after NOON, so that runs of any hour around it are in time."""
    return intake.accept(book_id=shop.book_id, runs=runs, at=at)


def debit(shop: Shop, runs: Sequence[NewRun], *, at: datetime = NOON + 500 * HOUR) -> Accepted:
    """Accept runs, and debit everything that waits in their shards."""
    accepted = accept(shop, runs, at=at)
    for shard in accepted.shards:
        debiting.drain_shard(shard=shard, at=at)
    return accepted


def drain(account_id: int, *, at: datetime = NOON + 500 * HOUR) -> int:
    return debiting.drain_shard(shard=shard_of(account_id), at=at)


_numbers = iter(range(1, 1_000_000_000))


def next_number() -> int:
    return next(_numbers)
