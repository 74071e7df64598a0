"""Limits on the way from a run up to its account: they refuse holds, count debits, ask people."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from ledger import holds, limits, reviews
from ledger.caps import Cap
from ledger.errors import (
    IdempotencyKeyReused,
    InsufficientTokens,
    InvalidLimit,
    LimitReached,
    ReviewAnswered,
    UnknownLimit,
    UnknownReview,
)
from ledger.held import HoldNow
from ledger.limits import NewLimit
from ledger.models import Account, Hold, LimitExcess, Standing
from ledger.reported import NewPart
from ledger.reviews import Answer, Review
from tests.ledger.builders import HOUR, NOON, debit, make_account, make_lot, make_run
from tests.ledger.holding import available, capture, hold, limit, new_hold, release, status, used

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


@pytest.fixture
def account_id(shop) -> int:
    account_id = make_account(shop)
    make_lot(account_id, 1_000, price_micros=3_000)
    return account_id


@pytest.mark.parametrize(
    ("scope", "names"),
    [
        ("actor", {"actor": "ada"}),
        ("workflow", {"workflow": "review"}),
        ("project", {"project": "merger"}),
        ("job", {"job": "audit"}),
        ("cost_centre", {"cost_centre": "legal"}),
        ("account", {}),
    ],
)
def test_a_hard_limit_refuses_and_names_what_it_counted(shop, account_id, scope, names) -> None:
    value = next(iter(names.values()), "")
    set_ = limit(account_id, 10, scope=scope, value=value)
    hold(shop, 6, **names)
    with pytest.raises(LimitReached) as refusal:
        hold(shop, 5, **names)
    told = refusal.value
    assert (told.limit_id, told.scope, told.scope_value) == (set_.id, scope, value)
    assert (told.cap, told.used, told.held, told.asked) == (10, 0, 6, 5)
    assert used(account_id) == {value: (0, 6)}
    assert available(account_id) == 994


def test_a_limit_on_one_value_leaves_the_others_alone(shop, account_id) -> None:
    limit(account_id, 10, scope="actor", value="ada")
    hold(shop, 50, actor="bob")
    hold(shop, 50)
    with pytest.raises(LimitReached):
        hold(shop, 11, actor="ada")


def test_a_limit_without_a_value_caps_each_by_itself(shop, account_id) -> None:
    limit(account_id, 10, scope="project")
    hold(shop, 10, project="a")
    hold(shop, 10, project="b")
    hold(shop, 500)
    for project in "ab":
        with pytest.raises(LimitReached):
            hold(shop, 1, project=project)
    assert used(account_id) == {"a": (0, 10), "b": (0, 10)}


def test_the_limit_nearest_to_the_run_is_named(shop, account_id) -> None:
    limit(account_id, 5, scope="account")
    limit(account_id, 5, scope="workflow")
    limit(account_id, 5, scope="run", period="run")
    with pytest.raises(LimitReached) as refusal:
        hold(shop, 6)
    assert refusal.value.scope == "run"


def test_every_limit_on_the_way_counts_and_gives_back(shop, account_id) -> None:
    limit(account_id, 100, scope="actor")
    limit(account_id, 100, scope="account", period="month")
    for run in "abc":
        hold(shop, 10, run=run, actor="ada")
    assert [
        use.held for one in limits.limits(account_id=account_id, at=NOON) for use in one.uses
    ] == [30, 30]
    release(shop, "a")
    capture(shop, make_run(7, run_id="b"))
    late = NOON + 16 * MINUTE
    hold(shop, 1, run="d", at=late)
    counted = [
        (use.scope_value, use.used, use.held)
        for one in limits.limits(account_id=account_id, at=NOON)
        for use in one.uses
    ]
    # Run b came without its actor: it counts on the account alone.
    assert counted == [("ada", 0, 0), ("", 7, 1)]


def test_a_debit_that_happened_anyway_is_booked_flagged_and_counted(shop, account_id) -> None:
    limit(account_id, 10, scope="workflow")
    debit(shop, [make_run(4, run_id=name) for name in "abc"], at=NOON)
    assert used(account_id) == {"review": (12, 0)}
    [excess] = limits.excesses(account_id=account_id)
    assert (excess.used_before, excess.used_after) == (8, 12)
    with pytest.raises(LimitReached):
        hold(shop, 1)


def test_days_begin_where_the_account_is(shop, account_id) -> None:
    Account.objects.filter(id=account_id).update(time_zone="Asia/Tokyo")
    limit(account_id, 10)
    midnight = datetime(2026, 6, 15, 15, tzinfo=UTC)
    hold(shop, 10, at=midnight - MINUTE)
    with pytest.raises(LimitReached):
        hold(shop, 1, at=midnight - timedelta(microseconds=1))
    hold(shop, 10, at=midnight)
    debit(shop, [make_run(3, at=midnight - MINUTE), make_run(4, at=midnight)])
    assert used(account_id, at=midnight - MINUTE) == {"": (3, 10)}
    assert used(account_id, at=midnight) == {"": (4, 10)}


def cap(**facts) -> Cap:
    terms: dict[str, Any] = {
        "id": 1, "account_id": 1, "scope": "account", "scope_value": "", "period": "day",
        "unit": "tokens", "cap": 1, "is_hard": True, "effective_at": NOON, "until_at": None,
        "time_zone": "Europe/Paris",
    }  # fmt: skip
    return Cap(**terms | facts)


@pytest.mark.parametrize(
    ("period", "zone", "at", "start", "next_start"),
    [
        ("day", "Europe/Paris", "2026-03-29T12", "2026-03-28T23", "2026-03-29T22"),  # 23 hours
        ("day", "Europe/Paris", "2026-10-25T12", "2026-10-24T22", "2026-10-25T23"),  # 25 hours
        ("month", "Asia/Tokyo", "2026-01-31T15", "2026-01-31T15", "2026-02-28T15"),
        ("month", "UTC", "2026-12-31T23", "2026-12-01T00", "2027-01-01T00"),
        ("day", "Asia/Kathmandu", "2026-06-15T18:14", "2026-06-14T18:15", "2026-06-15T18:15"),
        # Clocks in Cuba go from midnight to one: the day begins at one.
        ("day", "America/Havana", "2026-03-08T12", "2026-03-08T05", "2026-03-09T04"),
    ],
)
def test_periods_are_those_of_the_calendar(period, zone, at, start, next_start) -> None:
    of = cap(period=period, time_zone=zone)
    begun = of.period_start(datetime.fromisoformat(f"{at}{':00' * (':' not in at)}+00:00"))
    ended = of.next_start(begun)
    assert ended is not None
    assert [f"{one:%Y-%m-%dT%H:%M}".removesuffix(":00") for one in (begun, ended)] == [
        start.removesuffix(":00"),
        next_start,
    ]


def test_a_term_has_dates_of_its_own(shop, account_id) -> None:
    limit(account_id, 10, period="term", effective_at=NOON, until_at=NOON + 3 * DAY)
    hold(shop, 900, at=NOON - MINUTE)
    hold(shop, 6, run="a", at=NOON)
    with pytest.raises(LimitReached):
        hold(shop, 5, at=NOON + DAY - MINUTE * 60 * 24 + MINUTE)
    debit(shop, [make_run(6, at=NOON + 2 * DAY)], at=NOON + 2 * DAY)
    with pytest.raises(LimitReached):
        hold(shop, 5, at=NOON + 2 * DAY)
    hold(shop, 5, at=NOON + 3 * DAY)


def test_a_limit_counts_its_whole_period_whenever_it_was_set(shop, account_id) -> None:
    debit(shop, [make_run(6, at=NOON - HOUR), make_run(90, at=NOON - 24 * HOUR)], at=NOON)
    limit(account_id, 10)
    assert used(account_id) == {"": (6, 0)}
    with pytest.raises(LimitReached):
        hold(shop, 5)
    hold(shop, 4)


def test_a_limit_per_run_asks_each_run_alone(shop, account_id) -> None:
    limit(account_id, 5, scope="run", period="run")
    limit(account_id, 3, scope="workflow", value="draft", period="run")
    for _ in range(3):
        hold(shop, 5)
    with pytest.raises(LimitReached):
        hold(shop, 6)
    with pytest.raises(LimitReached):
        hold(shop, 4, workflow="draft")
    debit(shop, [make_run(5), make_run(6, run_id="x")], at=NOON)
    [excess] = limits.excesses(account_id=account_id)
    assert (excess.used_before, excess.used_after) == (0, 6)


def test_a_limit_in_money_counts_what_tokens_cost(shop, account_id) -> None:
    """A microtoken of the lot cost 3 micros."""
    limit(account_id, 30, unit="money")
    hold(shop, 4, run="a")
    hold(shop, 5, run="b")
    with pytest.raises(LimitReached) as refusal:
        hold(shop, 2)
    assert (refusal.value.held, refusal.value.asked) == (27, 6)
    capture(shop, make_run(2, run_id="a"))
    assert used(account_id) == {"": (6, 15)}
    hold(shop, 3)


def test_a_change_ends_one_limit_and_begins_another(shop, account_id) -> None:
    first = limit(account_id, 10)
    hold(shop, 8, run="a")
    ended = limits.end_limit(account_id=account_id, limit_id=first.id, at=NOON + MINUTE)
    assert limits.end_limit(account_id=account_id, limit_id=first.id, at=NOON + HOUR) == ended
    limit(account_id, 20, at=NOON + MINUTE)
    hold(shop, 20, at=NOON + MINUTE)
    capture(shop, make_run(8, run_id="a"), at=NOON + MINUTE)
    assert used(account_id) == {"": (8, 20)}
    assert Standing.objects.get(account_id=account_id).limits_count == 1


def test_a_limit_is_set_once_under_its_key(account_id) -> None:
    new = NewLimit(scope="account", period="day", cap=5, hard=True)
    first = limits.set_limit(account_id=account_id, limit=new, idempotency_key="k", at=NOON)
    again = limits.set_limit(account_id=account_id, limit=new, idempotency_key="k", at=NOON + HOUR)
    assert again == first
    other = NewLimit(scope="account", period="day", cap=6, hard=True)
    with pytest.raises(IdempotencyKeyReused):
        limits.set_limit(account_id=account_id, limit=other, idempotency_key="k", at=NOON)


@pytest.mark.parametrize(
    ("terms", "field"),
    [
        ({"scope": "run", "period": "day"}, "period"),
        ({"scope": "account", "value": "x"}, "value"),
        ({"period": "term"}, "until_at"),
        ({"until_at": NOON}, "until_at"),
        ({"scope": "actor", "value": "a\x00"}, "value"),
    ],
)
def test_a_limit_that_means_nothing_is_refused(account_id, terms, field) -> None:
    with pytest.raises(InvalidLimit) as refusal:
        limit(account_id, 5, **terms)
    assert [fault.field for fault in refusal.value.faults] == [field]


def test_a_limit_of_another_account_is_unknown(shop, account_id) -> None:
    set_ = limit(account_id, 5)
    other = make_account(shop, "other")
    with pytest.raises(UnknownLimit):
        limits.end_limit(account_id=other, limit_id=set_.id, at=NOON)
    with pytest.raises(UnknownReview):
        reviews.review(account_id=other, review_id=5)


def test_a_run_in_parts_takes_its_hold_part_by_part(shop, account_id) -> None:
    limit(account_id, 10, scope="workflow")
    limit(account_id, 9, scope="run", period="run")
    hold(shop, 8, run="r")
    parts = [
        msgspec.structs.replace(make_run(cost, run_id="r"), part=part)
        for cost, part in ((3, NewPart("a")), (4, NewPart("b")), (5, NewPart("c", last=True)))
    ]
    debit(shop, parts[:1], at=NOON)
    [by_workflow] = [one for one in limits.limits(account_id=account_id, at=NOON) if one.uses]
    assert [(use.used, use.held) for use in by_workflow.uses] == [(3, 5)]
    assert available(account_id) == 992
    debit(shop, parts[1:], at=NOON)
    assert status(shop, "r") == "captured"
    excess = LimitExcess.objects.order_by("limit_id")
    assert [(one.used_before, one.used_after) for one in excess] == [(7, 12), (7, 12)]


def ask(shop, microtokens: int, run: str, **more) -> HoldNow:
    return hold(shop, microtokens, run=run, **more)


def allow(account_id: int, review: Review, *, at: datetime = NOON, **more) -> Review:
    answer = Answer(allow=True, reason="go on", **more)
    return reviews.answer(account_id=account_id, review_id=review.id, answer=answer, at=at)


def refuse(account_id: int, review: Review, *, at: datetime = NOON, **more) -> Review:
    answer = Answer(allow=False, reason="enough", **more)
    return reviews.answer(account_id=account_id, review_id=review.id, answer=answer, at=at)


@pytest.fixture
def review(shop, account_id) -> Review:
    """Of a soft limit of 10 an actor, of which 8 are held: two holds wait for the answer."""
    limit(account_id, 10, scope="actor", hard=False)
    ask(shop, 8, "a", actor="ada")
    assert ask(shop, 3, "b", actor="ada").status(NOON) == "waiting"
    assert ask(shop, 4, "c", actor="ada").status(NOON) == "waiting"
    [review] = reviews.waiting(account_ids=[account_id])
    return review


def test_a_soft_limit_parks_the_hold_and_asks(shop, account_id, review) -> None:
    assert (review.scope_value, review.used, review.held, review.asked) == ("ada", 0, 8, 3)
    assert review.waiting_count == 2
    assert available(account_id) == 992
    ask(shop, 9, "d", actor="bob")
    assert ask(shop, 2, "e", actor="ada").status(NOON) == "held"


def test_an_allowed_review_resumes_what_waited_and_what_comes(shop, account_id, review) -> None:
    later = NOON + HOUR
    answered = allow(account_id, review, at=later, until_at=NOON + 3 * HOUR)
    assert (answered.is_allowed, answered.waiting_count) == (True, 0)
    resumed = Hold.objects.get(run_id="b")
    assert (resumed.held_at, resumed.expires_at) == (later, later + timedelta(seconds=900))
    assert ask(shop, 50, "d", actor="ada", at=later).status(later) == "held"
    over = NOON + 3 * HOUR
    capture(shop, make_run(12, run_id="d", at=over), at=over)
    ask(shop, 9, "e", actor="ada", at=over)
    assert ask(shop, 2, "f", actor="ada", at=over).status(over) == "waiting"


def test_a_refused_review_refuses_what_waited_and_what_comes(shop, account_id, review) -> None:
    refuse(account_id, review)
    assert status(shop, "b") == "refused"
    assert Hold.objects.get(run_id="c").refusal == "refused by review: enough"
    with pytest.raises(LimitReached, match="enough"):
        ask(shop, 3, "d", actor="ada")
    ask(shop, 2, "e", actor="ada")
    assert ask(shop, 11, "f", actor="ada", at=NOON + DAY).status(NOON + DAY) == "waiting"


def test_an_answer_is_given_once(account_id, review) -> None:
    first = allow(account_id, review)
    assert allow(account_id, review, at=NOON + HOUR) == first
    with pytest.raises(ReviewAnswered):
        refuse(account_id, review)


def test_an_answer_for_a_time_that_is_over_is_refused(account_id, review) -> None:
    with pytest.raises(InvalidLimit):
        allow(account_id, review, until_at=NOON)


def test_a_hold_that_is_allowed_still_needs_tokens(shop, account_id, review) -> None:
    hold(shop, 989)
    allow(account_id, review)
    assert status(shop, "b") == "held"
    assert status(shop, "c") == "refused"
    assert "microtokens" in Hold.objects.get(run_id="c").refusal


def test_a_waiting_hold_may_be_withdrawn_and_its_run_is_debited_all_the_same(
    shop, account_id, review
) -> None:
    release(shop, "b")
    debit(shop, [make_run(3, run_id="c")], at=NOON)
    allow(account_id, review)
    assert [status(shop, run) for run in "abc"] == ["held", "released", "captured"]


def test_a_soft_limit_per_run_asks_run_by_run(shop, account_id) -> None:
    limit(account_id, 5, scope="run", period="run", hard=False)
    ask(shop, 6, "a")
    ask(shop, 7, "b")
    first, second = reviews.waiting(account_ids=[account_id])
    assert (first.scope_value, second.scope_value) == ("a", "b")
    allow(account_id, first)
    assert [status(shop, run) for run in "ab"] == ["held", "waiting"]


def test_a_hard_limit_is_asked_before_anybody(shop, account_id) -> None:
    limit(account_id, 5, hard=False)
    limit(account_id, 8, scope="workflow")
    with pytest.raises(LimitReached):
        ask(shop, 9, "a")
    with pytest.raises((InsufficientTokens, LimitReached)):
        ask(shop, 1_001, "b")
    assert reviews.waiting(account_ids=[account_id]) == []


def test_what_is_held_for_one_is_counted_for_the_next_of_the_same_round(shop, account_id) -> None:
    limit(account_id, 10)
    asked = [holds.estimate(book_id=shop.book_id, hold=new_hold(3), at=NOON) for _ in range(8)]
    outcomes = holds.authorize(requests=asked, at=NOON)
    assert [isinstance(one, LimitReached) for one in outcomes] == [False] * 3 + [True] * 5


def test_a_run_that_just_reaches_its_limit_is_no_excess(shop, account_id) -> None:
    limit(account_id, 10)
    debit(shop, [make_run(6), make_run(4)])
    assert not LimitExcess.objects.exists()
    debit(shop, [make_run(1)])
    assert LimitExcess.objects.count() == 1
