"""Reviews of soft limits: who asked for what, where the limit is going, what an answer would do."""

from datetime import timedelta
from typing import Any

import pytest

from ledger import limits, reviews
from ledger.errors import ReviewAnswered, UnknownReview
from ledger.models import Hold, LimitReview, LimitUse, Standing
from ledger.reviews import Answer, Effect, Review
from tests.ledger.builders import HOUR, NOON, debit, make_account, make_lot, make_run
from tests.ledger.holding import available, hold, limit, status

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def account_id(shop) -> int:
    account_id = make_account(shop)
    make_lot(account_id, 100, price_micros=300)
    return account_id


def only_review(account_id: int) -> Review:
    [review] = reviews.waiting(account_ids=[account_id])
    return review


def allowed(account_id: int, *, at=NOON) -> Effect:
    """What allowing the only review would do."""
    review = only_review(account_id)
    return reviews.project(account_id=account_id, review_id=review.id, at=at).if_allowed


def test_a_review_says_who_asked_for_which_workflow_under_which_limit(shop, account_id) -> None:
    limit(account_id, 10, scope="actor", hard=False)
    debit(shop, [make_run(1)])
    hold(shop, 8, actor="ada")
    hold(shop, 3, run="r-1", actor="ada", workflow="draft", project="merger", job="audit")
    hold(shop, 4, run="r-2", actor="ada", workflow="review")
    review = only_review(account_id)
    assert (review.scope, review.scope_value, review.period, review.unit, review.cap) == (
        "actor", "ada", "day", "tokens", 10,
    )  # fmt: skip
    assert (review.run, review.workflow, review.project, review.job, review.cost_centre) == (
        "r-1", "draft", "merger", "audit", "sales",
    )  # fmt: skip
    assert (review.used, review.held, review.asked) == (0, 8, 3)
    assert (review.waiting_count, review.waiting_microtokens) == (2, 7)
    assert reviews.review(account_id=account_id, review_id=review.id) == review


def test_what_an_answer_would_do_is_told_and_not_done(shop, account_id) -> None:
    limit(account_id, 10, scope="actor", hard=False)
    limit(account_id, 14, scope="workflow", value="draft", hard=False)
    hold(shop, 8, actor="ada")
    hold(shop, 3, run="fits", actor="ada", at=NOON + MINUTE)
    hold(shop, 90, run="too large", actor="ada", at=NOON + 2 * MINUTE)
    hold(shop, 15, run="asks again", actor="ada", workflow="draft", at=NOON + 3 * MINUTE)
    at = NOON + 4 * MINUTE
    review = only_review(account_id)
    before = tables()
    projection = reviews.project(account_id=account_id, review_id=review.id, at=at)
    assert tables() == before
    assert projection.if_allowed == Effect(
        held_count=1, refused_count=1, waiting_count=1, used=0, held=11, available_microtokens=89
    )
    assert projection.if_refused == Effect(
        held_count=0, refused_count=3, waiting_count=0, used=0, held=8, available_microtokens=92
    )
    answer = Answer(allow=True, reason="go on")
    reviews.answer(account_id=account_id, review_id=review.id, answer=answer, at=at)
    runs = ("fits", "too large", "asks again")
    assert [status(shop, run, at=at) for run in runs] == ["held", "refused", "waiting"]
    assert available(account_id, at=at) == 89


def tables() -> list[Any]:
    every: list[Any] = [Hold, LimitReview, LimitUse, Standing]
    return [list(one.objects.order_by("pk").values()) for one in every]


def test_where_a_limit_is_going_is_told_by_its_period_so_far(shop, account_id) -> None:
    daily = limit(account_id, 10, hard=False)
    debit(shop, [make_run(6, at=NOON - HOUR), make_run(1, at=NOON - DAY)])
    hold(shop, 5)
    review = only_review(account_id)

    def expected(at) -> tuple[object, int | None]:
        found = reviews.project(account_id=account_id, review_id=review.id, at=at)
        return found.period_ends_at, found.expected_use

    midnight = NOON + 12 * HOUR
    assert expected(NOON) == (midnight, 12)
    assert expected(NOON + 6 * HOUR) == (midnight, 8)
    assert expected(NOON - 9.6 * HOUR) == (midnight, 60)
    assert expected(NOON - 9.61 * HOUR) == (midnight, None)
    # In the next period nothing is used yet.
    assert expected(NOON + DAY) == (midnight + DAY, 0)
    limits.end_limit(account_id=account_id, limit_id=daily.id, at=NOON)
    assert expected(NOON) == (None, None)
    assert allowed(account_id).held_count == 1


def test_a_limit_per_run_counts_nothing_and_goes_nowhere(shop, account_id) -> None:
    limit(account_id, 10, scope="run", period="run", hard=False)
    hold(shop, 11)
    projection = reviews.project(
        account_id=account_id, review_id=only_review(account_id).id, at=NOON
    )
    assert (projection.period_ends_at, projection.expected_use) == (None, None)
    assert (projection.if_allowed.used, projection.if_allowed.held) == (0, 0)
    assert projection.if_allowed.available_microtokens == 89


def test_a_limit_in_money_over_a_term_is_told_in_money(shop, account_id) -> None:
    limit(
        account_id, 60, period="term", unit="money", hard=False,
        effective_at=NOON - DAY, until_at=NOON + 3 * DAY,
    )  # fmt: skip
    debit(shop, [make_run(15)])
    hold(shop, 10)
    projection = reviews.project(
        account_id=account_id, review_id=only_review(account_id).id, at=NOON
    )
    assert (projection.period_ends_at, projection.expected_use) == (NOON + 3 * DAY, 4 * 45)
    assert (projection.if_allowed.used, projection.if_allowed.held) == (45, 30)


def test_what_is_answered_or_unknown_is_not_projected(shop, account_id) -> None:
    limit(account_id, 10, hard=False)
    hold(shop, 11)
    review = only_review(account_id)
    other = make_account(shop, "other")
    with pytest.raises(UnknownReview):
        reviews.project(account_id=other, review_id=review.id, at=NOON)
    answer = Answer(allow=False, reason="enough")
    answered = reviews.answer(account_id=account_id, review_id=review.id, answer=answer, at=NOON)
    assert (answered.waiting_count, answered.waiting_microtokens) == (0, 0)
    with pytest.raises(ReviewAnswered):
        reviews.project(account_id=account_id, review_id=review.id, at=NOON)
