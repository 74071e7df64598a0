from datetime import timedelta
from decimal import Decimal

import pytest

from billing import pricing, terms
from billing.explain import explain, overage_text
from billing.terms import Size, prices, put_together
from ledger import catalog as ledger_catalog
from ledger.value import Package, Tier, Tiers
from tests import builders
from tests.builders import TOKEN

pytestmark = pytest.mark.django_db


def explained(**changed):
    version = builders.plan_version(builders.shop(), **changed)
    found = explain(
        terms=terms.of_version(version=version, currency="EUR"),
        unit=ledger_catalog.unit(unit_id=version.unit_id),
    )
    text = [*found.sentences, *found.example]
    return [sentence.replace("\N{NO-BREAK SPACE}", " ") for sentence in text]


def test_a_plan_that_bills_overage_explains_itself():
    assert explained(**builders.billed(overage_cap_microtokens=5_000 * TOKEN)) == [
        "One token is one execution.",
        "The platform costs €500.00 a month, invoiced in advance.",
        "Each month starts with 1,000 tokens for €1,000.00, invoiced in advance: €1.00 a token.",
        "Tokens used beyond that are invoiced after the month's end, each at the price of its own"
        " tier (graduated): the first 250 tokens free, then €0.02 for each further token.",
        "At most 5,000 tokens a month are invoiced this way; what is used beyond is repaid by the"
        " next tokens you receive.",
        "Of the tokens left at the month's end up to 200 tokens (20 % of the allotment) stay"
        " yours for one more month; the rest expire.",
        "We tell you when 70 %, 90 % and 100 % of the allotment is used, and wait 24 hours for late"
        " work.",
        "Example: in a month you use 1,375 tokens.",
        "Platform fee: €500.00.",
        "Allotment of 1,000 tokens: €1,000.00.",
        "Overage, 250 tokens free: €0.00.",
        "Overage, 125 tokens at €0.02: €2.50.",
        "Together €1,502.50.",
    ]


def test_an_annual_pool_explains_itself_with_the_numbers_of_its_rollover():
    assert explained(
        term_months=12,
        platform_fee=Decimal(0),
        allotment_microtokens=1_000_000 * TOKEN,
        allotment_price=Decimal(10_000),
        alert_thresholds=(80,),
        grace=timedelta(days=7),
    ) == [
        "One token is one execution.",
        "Each year starts with 1,000,000 tokens for €10,000.00, invoiced in advance:"
        " €0.01 a token.",
        "Work that is done beyond your tokens is not invoiced: the next tokens you receive repay"
        " it.",
        "Of the tokens left at the year's end up to 200,000 tokens (20 % of the allotment) stay"
        " yours for one more year; the rest expire.",
        "We tell you when 80 % of the allotment is used, and wait 7 days for late work.",
        "Example: in a year you use 700,000 tokens of 1,000,000 tokens.",
        "You pay €10,000.00.",
        "200,000 tokens stay yours for one more year, 100,000 tokens expire.",
    ]


def test_the_smallest_plan_still_says_what_it_is():
    assert explained(
        platform_fee=Decimal(0),
        allotment_microtokens=0,
        allotment_price=Decimal(0),
        rollover_basis_points=0,
        grace=timedelta(0),
        alert_thresholds=(),
        **builders.billed(overage_tiers=(Tier(up_to_microtokens=None, micros_per_token=12_500),)),
    ) == [
        "One token is one execution.",
        "The plan itself grants no tokens.",
        "Tokens used beyond that are invoiced after the month's end: €0.0125 a token.",
        "Example: in a month you use 100 tokens.",
        "Overage, 100 tokens at €0.0125: €1.25.",
        "Together €1.25.",
    ]


PACKAGES = Tiers(model="package", package=Package(microtokens=40 * TOKEN, micros=3_200_000))
UP_TO = (
    Tier(up_to_microtokens=100 * TOKEN, micros_per_token=100_000),
    Tier(up_to_microtokens=200 * TOKEN, micros_per_token=50_000),
    Tier(up_to_microtokens=None, micros_per_token=0),
)


def test_overage_by_volume_says_that_all_tokens_have_one_price():
    text = explained(**builders.billed(overage_model="volume", overage_tiers=UP_TO))
    assert text[3] == (
        "Tokens used beyond that are invoiced after the month's end, all of them at one price that"
        " their number decides (volume): up to 100 tokens €0.10 each, up to 200 tokens €0.05 each,"
        " beyond that free."
    )
    assert text[-2:] == ["Overage, 150 tokens, all at €0.05: €7.50.", "Together €1,507.50."]


def test_overage_by_the_package_says_what_a_package_is_and_costs():
    text = explained(
        overage_policy="bill",
        overage_model="package",
        overage_package_microtokens=40 * TOKEN,
        package_price=Decimal("3.20"),
    )
    assert text[3] == (
        "Tokens used beyond that are invoiced after the month's end by the package: €3.20 for each"
        " package of 40 tokens that is begun."
    )
    assert text[-2:] == [
        "Overage, 60 tokens: 2 packages of 40 tokens at €3.20 each: €6.40.",
        "Together €1,506.40.",
    ]


@pytest.mark.parametrize(
    ("tiers", "before", "after", "said"),
    [
        (Tiers(model="volume", steps=UP_TO), 0, 99, "99 tokens, all at €0.10"),
        (
            Tiers(model="volume", steps=UP_TO),
            60,
            120,
            "60 tokens more: all 120 tokens at €0.05 come to €6.00, of which €6.00 stand on"
            " invoices",
        ),
        (
            Tiers(model="volume", steps=UP_TO),
            101,
            100,
            "1 token less: all 100 tokens at €0.10 come to €10.00, of which €5.05 stand on"
            " invoices",
        ),
        (Tiers(model="volume", steps=UP_TO[2:]), 60, 120, "60 tokens free"),
        (PACKAGES, 0, 40, "40 tokens: 1 package of 40 tokens at €3.20 each"),
        (PACKAGES, 39, 40, "1 token more, in a package of 40 tokens that stands on an invoice"),
        (PACKAGES, 40, 41, "1 token more: 1 more package of 40 tokens at €3.20 each"),
        (PACKAGES, 1, 200, "199 tokens more: 4 more packages of 40 tokens at €3.20 each"),
    ],
)
def test_a_line_of_overage_says_what_it_is_for(tiers, before, after, said):
    [part] = pricing.overage_parts(
        tiers=tiers, from_microtokens=before * TOKEN, to_microtokens=after * TOKEN
    )
    assert overage_text(tiers=tiers, part=part, currency="EUR") == said


def test_a_price_that_does_not_come_out_even_says_about():
    text = explained(allotment_microtokens=3 * TOKEN, allotment_price=Decimal(10))
    assert "about €3.333333 a token" in text[2]


@pytest.mark.parametrize("model", ["graduated", "volume"])
def test_a_plan_of_two_years_with_every_feature_on_reads_as_eight_sentences(model):
    """A draft: whatever may be said of a plan is said of it."""
    shop = builders.shop()
    version = builders.plan_version(
        shop,
        published=False,
        commitment=Decimal(90_000),
        seat_price=Decimal(20),
        allotment_microtokens=0,
        allotment_price=Decimal(0),
        sizes=[
            Size(
                code=name,
                name=name,
                allotment_microtokens=count * TOKEN,
                allotment_price=Decimal(price),
            )
            for name, count, price in (("Small", 10_000, 10_000), ("Large", 100_000, 80_000))
        ],
        trial_days=14,
        trial_microtokens=50 * TOKEN,
        welcome_microtokens=500 * TOKEN,
        welcome_months=24,
        **builders.billed(overage_model=model, overage_cap_microtokens=5_000 * TOKEN),
    )
    version.term_months = 24
    [price] = prices(version=version)
    found = explain(
        terms=put_together(version=version, price=price),
        unit=ledger_catalog.unit(unit_id=version.unit_id),
    )
    assert len(found.sentences) <= 8
    for said in ("2 years", "seat", "Large", "try it", "gift", "5,000 tokens", "€90,000.00"):
        assert any(said in sentence for sentence in found.sentences), said
    assert max(len(sentence.split()) for sentence in found.sentences) <= 60


def test_care_is_said_in_one_sentence_or_none():
    text = explained(alert_thresholds=())
    assert "Work of the last minute counts: we wait 24 hours for it." in text
    text = explained(grace=timedelta(0), alert_thresholds=(90,))
    assert "We tell you when 90 % of the allotment is used." in text
