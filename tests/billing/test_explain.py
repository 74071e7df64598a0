from datetime import timedelta
from decimal import Decimal

import pytest

from billing import terms
from billing.explain import explain
from ledger import catalog as ledger_catalog
from ledger.value import Tier
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
        "Tokens used beyond that are invoiced after the month's end: the first 250 tokens"
        " free, then €0.02 for each further token.",
        "At most 5,000 tokens a month are invoiced this way; what is used beyond is repaid by the"
        " next tokens you receive.",
        "Of the tokens left at the month's end up to 200 tokens (20 % of the allotment) stay"
        " yours for one more month; the rest expire.",
        "Work of the last minute counts: we wait 24 hours for it before we close the books.",
        "We tell you when 70 %, 90 % and 100 % of the allotment is used.",
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
        "Work of the last minute counts: we wait 7 days for it before we close the books.",
        "We tell you when 80 % of the allotment is used.",
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


def test_a_price_that_does_not_come_out_even_says_about():
    text = explained(allotment_microtokens=3 * TOKEN, allotment_price=Decimal(10))
    assert "about €3.333333 a token" in text[2]
