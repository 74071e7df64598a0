"""What the lint finds of a plan before it is published: each defect once, and how it is mended."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from djmoney.money import Money

from billing import catalog, complexity, lint, terms
from billing.errors import InvalidInput, NotConfirmed
from billing.lint import PackOffered, Subject
from billing.packs import PriceFrom, Season
from billing.terms import Price, Size, Terms
from ledger import catalog as ledger_catalog
from ledger.catalog import NewRate, RateFacts
from ledger.value import Package, Tier, Tiers
from tests import builders
from tests.builders import OPENED, TOKEN

CENT = 10_000
GRADUATED = Tiers(
    steps=(
        Tier(up_to_microtokens=500 * TOKEN, micros_per_token=115 * CENT),
        Tier(up_to_microtokens=None, micros_per_token=110 * CENT),
    )
)
SOUND = Terms(
    version_id=None,
    unit_id=1,
    rate_card_id=1,
    currency="EUR",
    term_months=1,
    platform_fee=Money(500, "EUR"),
    allotment_microtokens=1_000 * TOKEN,
    allotment_price=Money(1_000, "EUR"),
    grant_on_payment=False,
    commitment=Money(0, "EUR"),
    seat_price=Money(0, "EUR"),
    size=None,
    sizes_offered=(),
    overage_policy="bill",
    tiers=GRADUATED,
    overage_cap_microtokens=None,
    overage_soft_cap_microtokens=None,
    rollover_basis_points=2_000,
    grace=timedelta(hours=24),
    alert_thresholds=(70, 90, 100),
    trial_days=0,
    trial_microtokens=0,
    welcome_microtokens=0,
    welcome_months=3,
)
RATE = RateFacts(
    meter="executions",
    engine="",
    workflow="",
    microtokens=TOKEN,
    per_quantity=1,
    block_quantity=1,
    minimum_microtokens=0,
)
PACK = PackOffered(
    name="Boost", currency="EUR", micros=525_000_000, microtokens=500 * TOKEN, validity_months=12
)


def subject(*changed_terms: Terms, **changed) -> Subject:
    facts = {
        "terms": changed_terms or (SOUND,),
        "rates": (RATE,),
        "engines": frozenset({"atlas"}),
        "meters": frozenset({"executions"}),
        "packs": (PACK,),
    }
    return Subject(**facts | changed)


def of(**changed) -> Subject:
    return subject(replace(SOUND, **changed))


def steps(model, *prices):
    """Tiers of 100 tokens each, the last without end; prices in cents."""
    bounds = [100 * TOKEN * place for place in range(1, len(prices))]
    return Tiers(
        model=model,
        steps=tuple(
            Tier(up_to_microtokens=bound, micros_per_token=price * CENT)
            for bound, price in zip([*bounds, None], prices, strict=True)
        ),
    )


SIZES = (
    Size(code="s", name="Small", allotment_microtokens=100 * TOKEN, allotment_price=Decimal(100)),
    Size(code="l", name="Large", allotment_microtokens=200 * TOKEN, allotment_price=Decimal(201)),
)
TIERS, CAP = "prices.EUR.overage_tiers", "overage_cap_microtokens"
CASES = [
    ("unknown_engine", "rate_card_id", subject(rates=(replace(RATE, engine="gone"), RATE))),
    ("unknown_meter", "rate_card_id", subject(rates=(RATE, replace(RATE, meter="gone")))),
    ("engine_without_rate", "rate_card_id",
     subject(rates=(replace(RATE, engine="atlas"),), engines=frozenset({"atlas", "new"}))),
    ("rate_card_not_in_force", "rate_card_id", subject(rates=())),
    ("nothing_costs_tokens", "rate_card_id", subject(rates=(replace(RATE, microtokens=0),))),
    ("allotment_not_spendable", "allotment_microtokens",
     subject(rates=(replace(RATE, minimum_microtokens=1_000 * TOKEN + 1),))),
    ("everything_free", "prices.EUR.platform_fee",
     of(platform_fee=Money(0, "EUR"), allotment_price=Money(0, "EUR"), tiers=None)),
    ("overage_free_without_end", TIERS, of(tiers=steps("graduated", 115, 0))),
    ("tiers_alike", TIERS, of(tiers=steps("graduated", 115, 115))),
    ("volume_falls", TIERS, of(tiers=steps("volume", 115, 114))),
    ("cap_below_first_tier", CAP, of(overage_cap_microtokens=500 * TOKEN - 1)),
    ("cap_below_first_tier", CAP, of(
        tiers=Tiers(
            model="package", package=Package(microtokens=100 * TOKEN, micros=11_500 * CENT)
        ),
        overage_cap_microtokens=99 * TOKEN,
    )),
    ("overage_pointless", TIERS, of(tiers=steps("graduated", 132))),
    ("top_up_pointless", TIERS, of(tiers=steps("graduated", 105))),
    ("allotment_pointless", TIERS, subject(
        replace(SOUND, tiers=steps("graduated", 99)), packs=()
    )),
    ("allotment_dearer_than_top_up", "prices.EUR.allotment_price",
     of(allotment_price=Money(1_400, "EUR"), tiers=None)),
    ("no_pack_in_currency", "prices.EUR.currency",
     subject(packs=(replace(PACK, currency="USD"),))),
    ("gift_expires_before_term", "welcome_months",
     of(welcome_microtokens=TOKEN, welcome_months=3, term_months=12)),
    ("top_up_expires_before_term", "term_months",
     subject(replace(SOUND, term_months=12), packs=(replace(PACK, validity_months=11),))),
    ("no_alerts", "alert_thresholds", of(alert_thresholds=())),
    ("larger_size_dearer", "prices.EUR.sizes.l.allotment_price", of(sizes_offered=SIZES)),
    ("below_cost", "prices.EUR.allotment_price",
     subject(cost_micros_per_token={"EUR": 101 * CENT})),
    ("below_cost", TIERS, subject(
        replace(SOUND, allotment_price=Money(0, "EUR")), cost_micros_per_token={"EUR": 111 * CENT}
    )),
    ("too_complex", "plan", of(
        commitment=Money(2_000, "EUR"), sizes_offered=SIZES[:1], trial_days=14,
        overage_cap_microtokens=10_000 * TOKEN,
    )),
]  # fmt: skip


def test_a_sound_plan_has_no_findings():
    assert lint.of(subject=subject()) == []
    assert lint.of(subject=of(overage_cap_microtokens=500 * TOKEN)) == []
    fits = replace(RATE, minimum_microtokens=1_000 * TOKEN)
    assert lint.of(subject=subject(rates=(fits,))) == []
    assert lint.of(subject=subject(cost_micros_per_token={"EUR": 100 * CENT})) == []


@pytest.mark.parametrize(("code", "field", "seen"), CASES)
def test_each_defect_is_found_at_its_field_and_nothing_else(code, field, seen):
    found = lint.of(subject=seen)
    assert [(finding.code, finding.field) for finding in found] == [(code, field)]
    assert found[0].sentence.endswith(".")


ERRORS = {"unknown_engine", "unknown_meter", "nothing_costs_tokens", "allotment_not_spendable"}


def test_errors_come_first_and_are_those_with_which_nothing_works():
    for code, _, seen in CASES:
        [finding] = lint.of(subject=seen)
        assert (finding.severity == "error") == (code in ERRORS)
    both = lint.of(subject=subject(replace(SOUND, alert_thresholds=()), rates=(
        replace(RATE, engine="gone"), RATE
    )))  # fmt: skip
    assert [finding.severity for finding in both] == ["error", "warning"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("changed", "code", "field"),
    [
        ({"rollover_basis_points": 10_001}, "rollover_basis_points_range", "rollover_basis_points"),
        ({"platform_fee": Decimal(-1)}, "platform_fee_range", "prices.EUR.platform_fee"),
        ({"commitment": Decimal(1_500)}, "commitment_reached", "prices.EUR.commitment"),
        (
            builders.billed(overage_tiers=(Tier(up_to_microtokens=9, micros_per_token=1),)),
            "overage_tiers_last",
            "prices.EUR.overage_tiers",
        ),
        (
            builders.billed(overage_tiers=(builders.TIERS[0], *builders.TIERS)),
            "overage_tiers_ascending",
            "prices.EUR.overage_tiers",
        ),
        (
            {
                "overage_policy": "bill",
                "prices": [
                    Price(currency="EUR", overage_tiers=builders.TIERS),
                    Price(currency="USD"),
                ],
            },
            "overage_tiers_required",
            "prices.USD.overage_tiers",
        ),
    ],
)
def test_what_no_row_can_hold_is_an_error_too(changed, code, field):
    shop = builders.shop()
    version = builders.plan_version(shop, published=False)
    asked = builders.terms(shop, **changed)
    for name in ("overage_policy", "rollover_basis_points"):
        setattr(version, name, getattr(asked, name))
    found = lint.of_version(version=version, prices=asked.prices, at=OPENED)
    assert (code, field) in [(finding.code, finding.field) for finding in found]
    assert {finding.severity for finding in found} == {"error"}


@pytest.mark.django_db
def test_publishing_stops_at_errors_and_asks_for_warnings():
    shop = builders.shop(rates=[NewRate(meter="executions", microtokens=2_000 * TOKEN)])
    version = builders.plan_version(shop, published=False, alert_thresholds=())
    with pytest.raises(InvalidInput) as refused:
        builders.publish(version)
    assert [fault.rule for fault in refused.value.faults] == ["allotment_not_spendable"]
    shop = builders.shop()
    version = builders.plan_version(shop, published=False, alert_thresholds=())
    with pytest.raises(NotConfirmed) as asked:
        catalog.publish(version_id=version.pk, confirmed=["volume_falls"], at=OPENED)
    assert list(asked.value.warnings) == ["no_alerts"]
    version.refresh_from_db()
    assert version.published_at is None
    published = catalog.publish(version_id=version.pk, confirmed=["no_alerts"], at=OPENED)
    assert published.published_at == OPENED


@pytest.mark.django_db
def test_the_rates_looked_at_are_those_in_force_and_of_the_vendors_own():
    shop, other = builders.shop(), builders.shop()
    version = builders.plan_version(shop, published=False)
    prices = terms.prices(version=version)
    book_id = shop.vendor.book_id
    ledger_catalog.create_meter(book_id=other.vendor.book_id, code="theirs", name="Theirs")
    seen = lint.subject(version=version, prices=prices, at=OPENED)
    assert (seen.meters, seen.engines) == (frozenset({"executions"}), frozenset({"engine"}))
    assert [rate.meter for rate in seen.rates] == ["executions"]
    early = lint.subject(version=version, prices=prices, at=OPENED - timedelta(days=1))
    assert early.rates == ()
    ledger_catalog.publish_rate_card(
        book_id=book_id,
        unit_id=shop.unit_id,
        code="standard",
        name="Standard",
        effective_at=OPENED,
        rates=[NewRate(meter="executions", microtokens=7)],
        at=OPENED + timedelta(days=1),
    )
    seen = lint.subject(version=version, prices=prices, at=OPENED)
    assert [rate.least_microtokens for rate in seen.rates] == [7]


@pytest.mark.parametrize(
    ("changed", "score"),
    [
        ({}, 6),
        ({"tiers": None, "overage_policy": "block"}, 5),
        ({"tiers": steps("graduated", 115)}, 5),
        ({"tiers": steps("volume", 115, 114)}, 7),
        ({"tiers": Tiers(model="package", package=Package(microtokens=1, micros=1))}, 6),
        ({"rollover_basis_points": 0}, 5),
        ({"rollover_basis_points": 10_000}, 5),
        ({"overage_cap_microtokens": 1}, 7),
        ({"platform_fee": Money(0, "EUR")}, 5),
        ({"seat_price": Money(1, "EUR")}, 7),
        ({"commitment": Money(1, "EUR")}, 8),
        ({"sizes_offered": SIZES}, 7),
        ({"trial_days": 1, "welcome_microtokens": 1}, 8),
    ],
)
def test_what_a_buyer_has_to_remember_is_counted_with_reasons(changed, score):
    found = complexity.of(terms=replace(SOUND, **changed))
    assert found.score == score
    assert found.score == sum(reason.points for reason in found.reasons)
    points = [reason.points for reason in found.reasons]
    assert points == sorted(points, reverse=True)


@pytest.mark.django_db
def test_packs_are_looked_at_at_their_best_price_if_the_plans_customers_can_buy_them():
    shop = builders.shop()
    version = builders.plan_version(shop, published=False)
    facts: dict[str, Any] = {"tokens": 100, "bonus_microtokens": 50 * TOKEN}
    cheaper = [
        PriceFrom(price=Money(100, "EUR")),
        PriceFrom(price=Money(90, "EUR"), from_quantity=5),
        PriceFrom(price=Money(120, "USD")),
    ]
    builders.pack(shop, prices=cheaper, **facts)
    over = Season(until_on=OPENED.date() - timedelta(days=1))
    builders.pack(shop, season=over, **facts)
    builders.pack(shop, plan_ids=[builders.plan(shop).pk], **facts)
    builders.pack(builders.shop(), **facts)
    seen = lint.subject(version=version, prices=terms.prices(version=version), at=OPENED)
    assert [(pack.currency, int(pack.micros_per_token)) for pack in seen.packs] == [
        ("EUR", 60 * CENT),
        ("USD", 80 * CENT),
    ]


@pytest.mark.django_db
def test_a_season_that_ends_before_it_starts_is_refused_at_its_field():
    start = OPENED.date()
    season = Season(from_on=start, until_on=start - timedelta(days=1))
    with pytest.raises(InvalidInput) as refused:
        builders.pack(builders.shop(), season=season)
    assert [fault.field for fault in refused.value.faults] == ["season_until_on"]
