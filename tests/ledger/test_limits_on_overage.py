"""Limits on overage: what is used beyond all prepaid tokens is capped, or somebody is asked."""

from datetime import timedelta

import pytest

from ledger import grants, limits, reviews
from ledger.errors import InvalidLimit, LimitReached
from ledger.invariants import violations
from ledger.reviews import Answer
from ledger.value import Tier, Tiers
from tests.ledger.builders import NOON, debit, make_account, make_lot, make_run
from tests.ledger.holding import capture, hold, limit, status, used

DAY = timedelta(days=1)


@pytest.fixture
def account_id(shop) -> int:
    """10 tokens are prepaid, then 100 of overage, of which 5 need nobody's word."""
    account_id = make_account(shop)
    make_lot(account_id, 10)
    grants.open_overage(
        account_id=account_id,
        tiers=Tiers(steps=(Tier(up_to_microtokens=None, micros_per_token=1),)),
        cap_microtokens=100,
        currency="EUR",
        effective_at=NOON,
        expires_at=NOON + DAY,
        idempotency_key="overage",
        at=NOON,
    )
    return account_id


def capped(account_id: int, cap: int, *, hard: bool = False) -> None:
    limit(account_id, cap, period="term", unit="overage", until_at=NOON + DAY, hard=hard)


def test_holds_go_on_until_they_would_use_more_overage_than_that(shop, account_id) -> None:
    capped(account_id, 5)
    hold(shop, 8, run="prepaid")
    hold(shop, 7, run="to the brim")
    assert used(account_id) == {"": (0, 5)}
    assert hold(shop, 1, run="beyond").review_id is not None
    [review] = reviews.waiting(account_ids=[account_id])
    assert (review.unit, review.cap, review.used, review.held, review.asked) == (
        "overage", 5, 0, 5, 1,
    )  # fmt: skip
    projection = reviews.project(account_id=account_id, review_id=review.id, at=NOON)
    assert (projection.if_allowed.held, projection.if_refused.held) == (6, 5)
    answer = Answer(allow=True, reason="signed")
    reviews.answer(account_id=account_id, review_id=review.id, answer=answer, at=NOON)
    assert status(shop, "beyond") == "held"
    assert violations() == {}


def test_what_runs_used_of_it_counts_and_a_top_up_needs_nobodys_word(shop, account_id) -> None:
    capped(account_id, 5)
    debit(shop, [make_run(14)])
    assert used(account_id) == {"": (4, 0)}
    assert hold(shop, 2, run="beyond").review_id is not None
    make_lot(account_id, 3)
    assert hold(shop, 3, run="prepaid again").review_id is None
    capture(shop, make_run(3, run_id="prepaid again"))
    assert hold(shop, 1, run="the last one").review_id is None
    assert violations() == {}


def test_none_of_it_without_a_word_and_a_hard_one_refuses(shop, account_id) -> None:
    capped(account_id, 0)
    hold(shop, 10)
    assert hold(shop, 1).review_id is not None
    [soft] = limits.limits(account_id=account_id, at=NOON)
    limits.end_limit(account_id=account_id, limit_id=soft.id, at=NOON)
    capped(account_id, 0, hard=True)
    with pytest.raises(LimitReached) as refusal:
        hold(shop, 1)
    assert (refusal.value.used, refusal.value.held, refusal.value.asked) == (0, 0, 1)


@pytest.mark.parametrize(("scope", "period"), [("actor", "term"), ("account", "day")])
def test_only_the_account_has_overage_and_only_for_a_term(account_id, scope, period) -> None:
    with pytest.raises(InvalidLimit) as refusal:
        limit(account_id, 5, scope=scope, period=period, unit="overage", until_at=NOON + DAY)
    assert [fault.field for fault in refusal.value.faults] == ["unit"]
