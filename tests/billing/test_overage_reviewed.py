"""Overage that somebody is asked for: the policy `review`, and the soft cap beside the hard one."""

from typing import Any

import pytest

from billing import closing, terms
from billing.explain import explain
from billing.models import InvoiceLine, Period, PlanVersion
from ledger import catalog as ledger_catalog
from ledger import holds, limits, reviews
from ledger.holds import NewHold
from ledger.reviews import Answer
from tests import builders
from tests.builders import DAY, NOVEMBER, OCTOBER, TOKEN

pytestmark = pytest.mark.django_db

MID = OCTOBER + 10 * DAY
REVIEW: dict[str, Any] = builders.billed(overage_policy=PlanVersion.OveragePolicy.REVIEW)


def scene(**changed):
    shop = builders.shop()
    customer = builders.customer(shop)
    builders.subscription(customer, builders.plan_version(shop, **changed))
    return customer


def ask(customer, tokens: int, *, at=MID):
    wanted = NewHold(
        run=f"run-{builders.number()}",
        account=customer.code,
        workflow="review",
        microtokens=tokens * TOKEN,
    )
    return holds.authorize_one(book_id=customer.vendor.book_id, hold=wanted, at=at)


def test_a_plan_that_reviews_overage_asks_before_any_of_it_is_used() -> None:
    customer = scene(**REVIEW)
    assert ask(customer, 1_000).review_id is None
    waiting = ask(customer, 1)
    [review] = reviews.waiting(account_ids=[customer.account_id])
    assert (waiting.review_id, review.unit, review.cap) == (review.id, "overage", 0)
    answer = Answer(allow=True, reason="the quarter ends")
    reviews.answer(account_id=customer.account_id, review_id=review.id, answer=answer, at=MID)
    assert ask(customer, 299).review_id is None


def test_work_that_was_done_without_a_hold_is_invoiced_all_the_same() -> None:
    customer = scene(**REVIEW)
    builders.use(customer, 1_300, occurred_at=MID)
    closing.close_due(at=NOVEMBER + DAY)
    overage = InvoiceLine.objects.filter(kind="overage")
    assert sum(line.microtokens or 0 for line in overage) == 300 * TOKEN


def test_a_soft_cap_asks_beyond_it_and_a_new_period_has_its_own() -> None:
    customer = scene(**builders.billed(overage_soft_cap_microtokens=200 * TOKEN))
    assert ask(customer, 1_200).review_id is None
    assert ask(customer, 1).review_id is not None
    closing.close_due(at=NOVEMBER + DAY)
    [only] = limits.limits(account_id=customer.account_id, at=NOVEMBER + DAY)
    assert only.id == Period.objects.get(number=2).soft_cap_limit_id
    assert (only.cap, only.effective_at) == (200 * TOKEN, NOVEMBER)


def test_a_plan_without_one_sets_no_limit() -> None:
    customer = scene(**builders.billed())
    assert limits.limits(account_id=customer.account_id, at=MID) == []
    assert ask(customer, 5_000).review_id is None


def said(**changed) -> tuple[str, ...]:
    version = builders.plan_version(builders.shop(), **changed)
    unit = ledger_catalog.unit(unit_id=version.unit_id)
    return explain(terms=terms.of_version(version=version, currency="EUR"), unit=unit).sentences


def test_the_plan_says_that_work_waits() -> None:
    assert "New work that would use any of that waits until somebody allows it." in said(**REVIEW)
    soft = builders.billed(overage_soft_cap_microtokens=200 * TOKEN)
    assert (
        "New work that would use more than 200 tokens of that in a month waits until somebody"
        " allows it."
    ) in said(**soft)


def test_a_plan_of_two_years_with_everything_on_it_is_eight_sentences() -> None:
    everything = builders.billed(
        term_months=24,
        seat_price=30,
        commitment=5_000,
        trial_days=14,
        trial_microtokens=100 * TOKEN,
        welcome_microtokens=50 * TOKEN,
        overage_soft_cap_microtokens=200 * TOKEN,
        overage_cap_microtokens=300 * TOKEN,
    )
    sentences = said(**everything)
    assert len(sentences) == 8
    assert sentences[1] == (
        "A term has 2 years; the platform costs €500.00 a term and €30.00 for each seat, invoiced"
        " in advance."
    )
    assert sentences[7].startswith("We tell you when 70")
    assert sentences[7].endswith(" of the allotment is used, and wait 24 hours for late work.")
